// Users from Asterisk's pjsip.conf: softphones log in with their SIP credentials. It only reads.
import { QUEUE_RETRY } from '../passwords/pool.ts'
import { readAccounts } from './asterisk-accounts.ts'
import type { Account } from './asterisk-accounts.ts'
import { loadAsteriskConfig } from './asterisk-config.ts'
import { createPasswordProof } from './asterisk-secret.ts'
import { holdUsers, type Reading, type SourceEvents } from './hold-users.ts'
import type { UserSource } from './source.ts'

export interface AsteriskUsersOptions extends SourceEvents {
  /** pjsip.conf, which includes the rest, or pjsip.auth.conf alone. */
  file: string
  /** Everybody found has this role. */
  role: string
  /**
   * Costs as much as a real check; undefined if the queue is full. The directory runs it for a stranger:
   * a user must cost as much, or the time of an answer tells who has an extension.
   */
  hashDecoy(username: string): Promise<unknown> | undefined
}

const load = async (file: string, role: string): Promise<Reading<Account>> => {
  const { sections, mark, readMark, ...config } = await loadAsteriskConfig(file)
  const { accounts, warnings } = await readAccounts(sections, role)
  return {
    users: accounts,
    problems: config.problems,
    warnings: [...config.warnings, ...warnings],
    mark,
    readMark,
  }
}

/** Throws a ConfigError with every problem. */
export const openAsteriskUsers = async (options: AsteriskUsersOptions): Promise<UserSource> => {
  const { file, role, hashDecoy } = options
  const provesPassword = createPasswordProof()
  const { find, ...held } = await holdUsers(file, () => load(file, role), options)
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
