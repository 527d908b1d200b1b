// Users from Asterisk's pjsip.conf: softphones log in with their SIP credentials. It only reads, holds
// everything in memory, and keeps the last good state when the files are broken.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ConfigError } from '../config/config-error.ts'
import { readAccounts } from './asterisk-accounts.ts'
import type { Account } from './asterisk-accounts.ts'
import { loadAsteriskConfig } from './asterisk-config.ts'
import { diffUsers } from './diff-users.ts'
import type { UsersDiff } from './diff-users.ts'
import type { Lookup, User, UserSource } from './source.ts'
import { startWatch } from './watch.ts'

export interface AsteriskUsers extends UserSource {
  readonly name: 'asterisk'
  /** Everybody in the files, those without a secret too. */
  names(): Iterable<string>
}

export interface AsteriskUsersOptions {
  /** pjsip.conf, which includes the rest, or pjsip.auth.conf alone. */
  file: string
  /** Everybody found has this role. */
  role: string
  /**
   * Hashes something at the price of a real check; undefined when the queue is full. The directory does
   * it for a stranger: a user must cost as much, or the time tells who has an extension.
   */
  spend(): Promise<unknown> | undefined
  /**
   * After every good read but the first, with the new state already in force; `reload` waits for it.
   * When it rejects, the same changes are handed over again a second later.
   */
  onChange(diff: UsersDiff): void | Promise<void>
  /** Said once for each broken state: `file:line: what is wrong: the cure`. */
  onProblem(problems: readonly string[]): void
  /** What the operator should know, though the files are in force. */
  onWarning?: (line: string) => void
  every(seconds: number, look: () => Promise<void>): () => void
}

const QUEUE_RETRY = 2 // seconds: a full queue of 64 hashes is through after 1.3

const load = async (file: string, role: string) => {
  const config = await loadAsteriskConfig(file)
  const { accounts, problems, warnings } = readAccounts(config.sections, role)
  return {
    accounts,
    problems: [...config.problems, ...problems],
    warnings: [...config.warnings, ...warnings],
    mark: config.mark,
    readMark: config.readMark,
  }
}

/** Throws a ConfigError with every problem: a daemon does not start on a file that is broken. */
export const openAsteriskUsers = async (options: AsteriskUsersOptions): Promise<AsteriskUsers> => {
  const { file, role, spend } = options
  const key = randomBytes(32)

  let state = await load(file, role) // read last, good or broken: what is watched
  if (state.problems.length > 0) throw new ConfigError(state.problems)
  let { accounts } = state // in force
  let announced = accounts // what onChange was last told of
  let warned = ''
  let again = false
  warn()

  function warn(): void {
    const text = state.warnings.join('\n')
    if (text !== warned) for (const line of state.warnings) options.onWarning?.(line)
    warned = text
  }

  async function read(): Promise<void> {
    state = await load(file, role)
    again = false
    if (state.problems.length > 0) return watch.report(state.problems)
    if (watch.closed) return undefined
    watch.report([])
    warn()
    // The new state first: a login between the two would open a session that nothing ends.
    ;({ accounts } = state)
    const diff = diffUsers(announced, accounts)
    try {
      await options.onChange(diff)
      announced = state.accounts
    } catch (error) {
      again = true
      throw error
    }
  }

  const watch = startWatch({
    file,
    mark: state.mark,
    readMark: () => state.readMark(),
    isNew: (mark) => again || mark !== state.mark,
    read,
    onProblem: options.onProblem,
    every: (seconds, look) => options.every(seconds, look),
  })

  function matches({ name, secret }: Account, password: string): boolean {
    const [stored, shown] =
      'md5' in secret
        ? [
            secret.md5,
            createHash('md5').update(`${name}:${secret.realm}:${password}`).digest('hex'),
          ]
        : [secret.password, password]
    // Hashed under a key that nobody knows: equal lengths, and no time that tells how far they agree.
    const seal = (text: string): Buffer => createHmac('sha256', key).update(text).digest()
    return timingSafeEqual(seal(stored), seal(shown))
  }

  function peek(username: string): Lookup {
    const account = accounts.get(username)
    if (account === undefined) return { refused: 'unknown_user' }
    return account.disabled ? { refused: 'disabled' } : { user: toUser(account) }
  }

  return {
    name: 'asterisk',
    async authenticate(username, password) {
      if (!accounts.has(username)) return { refused: 'unknown_user' }
      const spent = spend()
      if (spent === undefined) return { unavailable: 'hash_queue_full', retryAfter: QUEUE_RETRY }
      await spent
      // Looked up after the wait: whoever was removed meanwhile stays out.
      const account = accounts.get(username)
      if (account === undefined) return { refused: 'unknown_user' }
      if (account.disabled) return { refused: 'disabled' }
      return matches(account, password) ? { user: toUser(account) } : { refused: 'wrong_password' }
    },
    lookup: async (username) => peek(username),
    peek,
    names: () => accounts.keys(),
    reload: watch.reload,
    close: watch.close,
  }
}

function toUser({ name, role, displayName, credential }: Account): User {
  return { name, role, displayName, credential }
}
