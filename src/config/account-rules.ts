// What the operator says of the PBX's accounts: `name 201 keep`, `context door-* leave out`, `name 1?? role admin`.

export interface AccountRule {
  readonly of: 'name' | 'context'
  readonly pattern: RegExp
  /** A role is given to whoever is a user, and makes nobody one: a wide pattern may well fit a trunk. */
  readonly says: 'keep' | 'leave out' | { readonly role: string }
  readonly written: string
}

/** `*` is any text and `?` any character, in any case: Asterisk finds a context without regard to it. */
export const readPattern = (text: string): RegExp => {
  const literal = text.replace(/[\\^$.|+()[\]{}]/g, '\\$&')
  return new RegExp(`^${literal.replace(/\*+/g, '.*').replaceAll('?', '.')}$`, 'is')
}

const RULE = /^(name|context) +(\S(?:.*\S)?) +(?:(keep|leave out)|role +(\S+))$/

export const readAccountRule = (written: string): AccountRule | { problem: string } => {
  const [, of, pattern = '', verdict, role = ''] = RULE.exec(written) ?? []
  if (of === undefined) {
    return {
      problem:
        'must be "name PATTERN keep", "context PATTERN leave out" or "name PATTERN role ROLE": name is an endpoint\'s',
    }
  }
  return {
    of: of as AccountRule['of'],
    pattern: readPattern(pattern),
    says: verdict === undefined ? { role } : (verdict as 'keep' | 'leave out'),
    written,
  }
}
