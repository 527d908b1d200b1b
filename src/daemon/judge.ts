// Whether a start would succeed, as far as the configuration decides that: whatever it names is opened by the very
// functions that a start opens it with, and closed again. It must never make or change anything. What only the
// running machine can tell (a server that is away, a port in use) is for the start to find.

import { accessSync, closeSync, constants, existsSync, openSync } from 'node:fs'
import { dirname } from 'node:path'

import { inspectCdr } from '../calls/cdr-reader.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { judgeKeys, keysFile } from '../config/keys-file.ts'
import type { LoadedConfig } from '../config/load.ts'
import { readSecretFile } from '../config/secret-file.ts'
import { asOwner } from '../files/owner.ts'
import { findSocketFile, groupId, ListenError } from '../http/listen.ts'
import { openIssuers } from '../issuers/open-issuers.ts'
import { StoreError } from '../store/store.ts'
import { printable, readAsteriskUsers } from '../users/asterisk.ts'
import { cdrTerms } from './open-calls.ts'
import {
  judgeRedis,
  makeStateDirectory,
  notMade,
  notWritten,
  refuseLostStore,
  StartError,
} from './open-state.ts'
import { type FollowedUsers, openUsers } from './open-users.ts'

/** What systemd makes for the unit before a start: RuntimeDirectory=, StateDirectory= and LogsDirectory=. */
const MADE_BY_SYSTEMD = /^\/(?:run|var\/lib|var\/log)\/[^/]+$/
const WRITABLE = constants.W_OK | constants.X_OK

const isMadeAtStart = (folder: string): boolean =>
  MADE_BY_SYSTEMD.test(folder) && !existsSync(folder)

const judgeState = async ({ state, store }: Config): Promise<void> => {
  const { directory } = state
  if (isMadeAtStart(directory)) return
  if (existsSync(directory)) {
    makeStateDirectory(directory) // it is there: nothing is made, and a file in its place is refused
    if (store.url === '') refuseLostStore(directory)
    await judgeKeys(directory)
    return
  }
  let above = dirname(directory)
  while (!existsSync(above)) above = dirname(above)
  try {
    accessSync(`${above}/`, WRITABLE)
  } catch (cause) {
    throw notMade(directory, cause)
  }
}

const judgeSecurityLog = (path: string): void => {
  if (path === '' || isMadeAtStart(dirname(path))) return
  try {
    // O_NONBLOCK: a FIFO that nobody reads must not hang whoever asks.
    const mode = constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK
    if (existsSync(path)) closeSync(openSync(path, mode))
    else accessSync(`${dirname(path)}/`, WRITABLE)
  } catch (cause) {
    throw notWritten(path, cause)
  }
}

const judgeSocket = (path: string): void => {
  if (!isMadeAtStart(dirname(path))) findSocketFile(path)
}

/** Users whose role gives them nothing: allowed, and hardly ever meant. */
const findRoleless = (file: string, roles: Config['roles'], users: FollowedUsers): string[] => {
  const roleless = [...users.names()].filter((name) => {
    const found = users.peek(name)
    return found && 'user' in found && !roles.has(found.user.role)
  })
  if (roleless.length === 0) return []
  const more = roleless.length > 3 ? ` and ${roleless.length - 3} more` : ''
  return [
    `${file}: ${roleless.slice(0, 3).join(', ')}${more}: may do nothing, since their role has no [roles.NAME] section: correct the role, or write the section`,
  ]
}

const MOST_LOST = 20 // lines: a PBX may have thousands, and few reasons

/** Whom earlier versions let in, and this one does not, unless a rule of the operator's says so. */
const findLost = async ({ asterisk }: Config): Promise<string[]> => {
  const { found } = await readAsteriskUsers(asterisk)
  const lost = found.flatMap(({ name, place, endpoint, wasUser, leftOut }) => {
    if (!wasUser || !leftOut || leftOut.isMeant) return []
    const text = `${name} can no longer log in by [${endpoint.name}]: ${leftOut.why}: ${leftOut.cure}`
    return `${place}: ${printable(text)}`
  })
  if (lost.length <= MOST_LOST) return lost
  const more = `${asterisk.file}: and ${lost.length - MOST_LOST} more: see postern user list --source asterisk`
  return [...lost.slice(0, MOST_LOST), more]
}

const ignore = (): undefined => undefined
const atOnce = (): number => 0 // nothing grows old during a look

/** The errors that end a start and name a cure; anything else is a fault. */
const KINDS = [ConfigError, StartError, StoreError, ListenError]

const SOURCES = {
  file: 'users.file',
  asterisk: 'asterisk.file',
  http: 'http_users.login_url',
} as const

/** Throws a ConfigError with every problem and its place; resolves to the warnings, despite which a start succeeds. */
export const judgeConfig = async ({ config, place }: LoadedConfig): Promise<string[]> => {
  const problems: string[] = []
  const warnings: string[] = []

  const locate = (setting: string, problem: string): string => {
    if (/^\/[^:]+:\d+: /.test(problem)) return problem // in a file of its own, with its line
    const [named] = /^[a-z_]+(?:\.[\w-]+)+(?=: )/.exec(problem) ?? []
    return named === undefined
      ? `${place(setting)}: ${setting}: ${problem}`
      : `${place(named)}: ${problem}`
  }
  /** `path`: what is looked at, by root as its owner. */
  const judge = async (setting: string, path: string, look: () => unknown): Promise<void> => {
    try {
      await asOwner(path || '/', look)
    } catch (error) {
      if (!KINDS.some((kind) => error instanceof kind)) throw error
      const found = error instanceof ConfigError ? error.problems : [(error as Error).message]
      problems.push(...found.map((problem) => locate(setting, problem)))
    }
  }

  const { listen, state, store, users, log } = config
  const files = {
    file: users.file,
    asterisk: config.asterisk.file,
    http: config.httpUsers.tokenFile,
  }
  await judge('listen.control', listen.control, () => {
    judgeSocket(listen.control)
  })
  for (const name of ['operator', 'http'] as const) {
    const address = listen[name]
    if (!('path' in address)) continue
    await judge(`listen.${name}`, address.path, () => judgeSocket(address.path))
  }
  if (listen.socketGroup !== '') {
    await judge('listen.socket_group', '/', () => groupId(listen.socketGroup))
  }
  await judge('state.directory', keysFile(state.directory), () => judgeState(config))
  if (store.url !== '') {
    await judge('store.password_file', store.passwordFile, () =>
      readSecretFile(store.passwordFile, 'store.password_file'),
    )
    await judge('store.ca_file', store.caFile, () => judgeRedis(store.caFile))
  }
  let known = 0
  for (const source of users.sources) {
    await judge(SOURCES[source], files[source], async () => {
      const only = { ...config, users: { ...users, sources: [source] } }
      const pool = { hash: ignore, verify: ignore }
      const opened = await openUsers(
        only,
        pool,
        (line) => void warnings.push(line),
        () => ignore,
      )
      if (source === 'asterisk') warnings.push(...(await findLost(config)))
      if (source === 'file') warnings.push(...findRoleless(users.file, config.roles, opened))
      known += [...opened.names()].length
      opened.close()
    })
  }
  if (known === 0 && !users.sources.includes('http')) {
    const file = users.sources.includes('file') ? users.file : config.asterisk.file
    warnings.push(
      `${file}: no user is there: nobody can log in, and a start keeps the sessions of those who were, and lets none of them in, until \`postern reload\` means it`,
    )
  }
  const clock = { now: atOnce, monotonic: atOnce }
  const events = { clock, observe: ignore, onProblem: ignore }
  for (const [name, issuer] of config.issuers) {
    // A start does not wait for what is fetched over the network either.
    if (issuer.file === '') continue
    await judge(`issuers.${name}`, issuer.file, () =>
      openIssuers(new Map([[name, issuer]]), events),
    )
  }
  if (config.calls.sources.includes('cdr')) {
    // Never a reason not to start: what cannot be read is nobody's, and the daemon goes on looking.
    await judge('calls.cdr_file', config.calls.cdrFile, () => {
      warnings.push(...inspectCdr(cdrTerms(config.calls)))
    })
  }
  await judge('log.security', log.security, () => {
    judgeSecurityLog(log.security)
  })
  if (problems.length > 0) throw new ConfigError(problems)
  return warnings
}
