// What doctor has to say of one thing: right, worth a look, or wrong; and the cure.

export interface Finding {
  /** A stable word for machines and tests. */
  rule: string
  state: 'ok' | 'warning' | 'problem'
  /** `file:line` or what was looked at. */
  where: string
  text: string
  cure?: string
}

const say =
  (state: 'warning' | 'problem') =>
  (rule: string, where: string, text: string, cure: string): Finding => ({
    rule,
    state,
    where,
    text,
    cure,
  })

export const warning = say('warning')
export const problem = say('problem')
export const ok = (rule: string, where: string, text: string): Finding => ({
  rule,
  state: 'ok',
  where,
  text,
})
