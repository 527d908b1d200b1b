// Users from Asterisk's pjsip.conf: softphones log in with their SIP credentials. It only reads.
import { QUEUE_RETRY } from '../passwords/pool.ts'
import { type Account, type Candidate, readAccounts } from './asterisk-accounts.ts'
import { loadAsteriskConfig } from './asterisk-config.ts'
import type { AccountTerms } from './asterisk-endpoints.ts'
import { createPasswordProof } from './asterisk-secret.ts'
import { holdUsers, type Reading, type SourceEvents } from './hold-users.ts'
import type { UserSource } from './source.ts'

export interface AsteriskTerms extends AccountTerms {
  /** pjsip.conf, which includes the rest, or pjsip.auth.conf alone. */
  file: string
}

export interface AsteriskUsersOptions extends AsteriskTerms, SourceEvents {
  /**
   * Costs as much as a real check; undefined if the queue is full. The directory runs it for a stranger:
   * a user must cost as much, or the time of an answer tells who has an extension.
   */
  hashDecoy(username: string): Promise<unknown> | undefined
}

/** What stands in Asterisk's files, fit for a line and a terminal. */
export const printable = (text: string): string =>
  text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')

const MOST_SAID = 50

/** For the log: a file of another kind would fill it. */
const sayFirst = (file: string, lines: readonly string[]): readonly string[] =>
  lines.length <= MOST_SAID
    ? lines
    : [...lines.slice(0, MOST_SAID), `${file}: and ${lines.length - MOST_SAID} more warnings`]

/** Nobody is a user: said at each start, since an include that is missing looks like this. */
const findNobody = (found: readonly Candidate[]): string => {
  const [first] = found
  if (!first) return 'no account is there'
  return `every account is left out, ${found.length} in all, the first since ${first.leftOut?.why}`
}

/** `found`: every account, those left out too. */
export const readAsteriskUsers = async (
  terms: AsteriskTerms,
): Promise<Reading<Account> & { found: readonly Candidate[] }> => {
  const { sections, mark, readMark, ...config } = await loadAsteriskConfig(terms.file)
  const { accounts, found, warnings } = await readAccounts(sections, terms)
  const nobody =
    accounts.size > 0
      ? []
      : [
          `${terms.file}: ${findNobody(found)}: nobody logs in by it: see postern user list --source asterisk`,
        ]
  return {
    users: accounts,
    found,
    problems: config.problems,
    warnings: sayFirst(terms.file, [...nobody, ...config.warnings, ...warnings]).map(printable),
    mark,
    readMark,
  }
}

/** Throws a ConfigError with every problem. */
export const openAsteriskUsers = async (options: AsteriskUsersOptions): Promise<UserSource> => {
  const { file, hashDecoy } = options
  const provesPassword = createPasswordProof()
  const { find, ...held } = await holdUsers(file, () => readAsteriskUsers(options), options)
  return {
    name: 'asterisk',
    ...held,
    async authenticate(username, password) {
      if (!find(username)) return { refused: 'unknown_user' }
      const hashed = hashDecoy(username)
      if (hashed === undefined) return { unavailable: 'hash_queue_full', retryAfter: QUEUE_RETRY }
      await hashed
      // Looked up after the wait: whoever was removed meanwhile stays out.
      const account = find(username)
      const found = held.peek(username)
      if (!account || 'refused' in found) return found
      const shown = account.secrets.find(([, secret]) => provesPassword(username, secret, password))
      if (!shown) return { refused: 'wrong_password' }
      return { user: { ...found.user, credential: shown[0] } }
    },
  }
}
