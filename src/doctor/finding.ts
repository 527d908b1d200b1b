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
