// Under which number a user's calls are found. A number that may be another's is none.
import type { User } from './source.ts'

/** Of what may be a number: a name such as 201, where the source says nothing else. */
export const numberOf = (found: unknown): Pick<User, 'number'> =>
  typeof found === 'string' && /^[0-9]+$/.test(found) ? { number: found } : {}

/** Of `"Name" <201>` or `201`, as Asterisk writes a caller id. With a second < nobody can tell which is meant. */
export const numberInCallerid = (callerid: string): Pick<User, 'number'> =>
  numberOf(/^[^<>]*<([^<>]*)>$/.exec(callerid)?.[1] ?? callerid)
