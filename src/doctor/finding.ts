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

type Fault = (rule: string, where: string, text: string, cure: string) => Finding

export const ok = (rule: string, where: string, text: string): Finding => ({
  rule,
  state: 'ok',
  where,
  text,
})
export const warning: Fault = (rule, where, text, cure) => ({
  rule,
  state: 'warning',
  where,
  text,
  cure,
})
export const problem: Fault = (rule, where, text, cure) => ({
  rule,
  state: 'problem',
  where,
  text,
  cure,
})
