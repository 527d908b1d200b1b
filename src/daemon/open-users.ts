// The user sources that the config names, opened in its order. What a change in one of them means is said to
// the daemon; what was broken is told once and keeps the last good state.

import { isMachineUser } from '../auth/machine-key.ts'
import type { Time } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { readSecretFile } from '../config/secret-file.ts'
import type { PasswordPool } from '../passwords/pool.ts'
import { openAsteriskUsers } from '../users/asterisk.ts'
import type { UsersDiff } from '../users/diff-users.ts'
import { createDirectory } from '../users/directory.ts'
import { openUsersFile } from '../users/file.ts'
import { openHttpUsers } from '../users/http.ts'
import type { Lookup, UserSource } from '../users/source.ts'

export interface UserEvents {
  onChange(source: UserSource['name'], diff: UsersDiff): Promise<void>
  onProblem(source: UserSource['name'], problems: readonly string[]): void
  onHeldBack(source: UserSource['name'], removed: number, of: number): void
}

/** A name that a machine key could have is nobody's, whatever source knows it. */
const ownName = (username: string): string => (isMachineUser(username) ? '' : username)

const NOBODYS = 'a password that nobody has'

/** Throws a ConfigError with every problem of a source; what was opened before it is closed then. */
export const openUsers = async (
  config: Config,
  pool: Pick<PasswordPool, 'hash' | 'verify'>,
  onWarning: (line: string) => void,
  every: Time['every'],
) => {
  const missed = new Map<UserSource['name'], readonly string[]>()
  let events: UserEvents = {
    onChange: () => Promise.reject(new Error('nobody follows the users yet')),
    onProblem: (source, problems) => void missed.set(source, problems),
    onHeldBack: () => undefined, // said again within a minute
  }
  let standInHash: (stranger: string) => string | undefined = () => undefined
  /**
   * What a stranger costs, so that the time of an answer does not tell who exists: as much as somebody of the users
   * file, whose hashes may be older than the configured cost (bcrypt 5 takes 4.5 ms, bcrypt 10 95).
   */
  const hashDecoy = (username: string): Promise<unknown> | undefined => {
    const stored = standInHash(username)
    return stored === undefined ? pool.hash(NOBODYS) : pool.verify(stored, NOBODYS)
  }
  const of = (source: UserSource['name']) => ({
    onChange: (diff: UsersDiff) => events.onChange(source, diff),
    onProblem: (problems: readonly string[]) => {
      events.onProblem(source, problems)
    },
    onHeldBack: (removed: number, among: number) => {
      events.onHeldBack(source, removed, among)
    },
    onWarning,
    every,
  })
  const { asterisk, httpUsers } = config
  const openers: Readonly<Record<UserSource['name'], () => UserSource | Promise<UserSource>>> = {
    async file() {
      const source = await openUsersFile({ file: config.users.file, pool, ...of('file') })
      ;({ standInHash } = source)
      return source
    },
    asterisk: () => openAsteriskUsers({ ...asterisk, hashDecoy, ...of('asterisk') }),
    http: () =>
      openHttpUsers({
        ...httpUsers,
        ca: httpUsers.caFile === '' ? undefined : httpUsers.caFile,
        token: readSecretFile(httpUsers.tokenFile, 'http_users.token_file'),
        hashDecoy,
        onProblem(problem) {
          events.onProblem('http', [problem])
        },
      }),
  }
  const sources: UserSource[] = []
  try {
    for (const name of config.users.sources) sources.push(await openers[name]())
  } catch (error) {
    for (const source of sources) source.close()
    throw error
  }
  const directory = createDirectory(sources, hashDecoy)
  let missesSome = true
  return {
    ...directory,
    peek: (username: string) => directory.peek(ownName(username)),
    async lookup(username: string): Promise<Lookup> {
      const found = await directory.lookup(ownName(username))
      const isMissing = missesSome && 'refused' in found && found.refused === 'unknown_user'
      return isMissing ? { unavailable: 'source_away' } : found
    },
    /**
     * Whether those whom no source knows may only be missing, as they are until this was called: a refresh of theirs then
     * ends nothing.
     */
    mayMiss(some: boolean): void {
      missesSome = some
    },
    /** From now on changes and problems are told. Earlier changes are found again; earlier problems are told at once. */
    follow(next: UserEvents): void {
      events = next
      for (const [source, problems] of missed) next.onProblem(source, problems)
      missed.clear()
    },
  }
}

export type FollowedUsers = Awaited<ReturnType<typeof openUsers>>
