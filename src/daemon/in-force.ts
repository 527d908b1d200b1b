// The configuration in force and all that it decides. A reload builds everything anew and swaps it; one that is
// broken changes nothing.

import { type StillGranted, createStillGranted } from '../auth/check.ts'
import { createPolicy, type Policy } from '../auth/grants.ts'
import { foreignName, isForeignName, type TrustedIssuer } from '../auth/issuer.ts'
import type { Keyring } from '../auth/keyring.ts'
import { isMachineUser, machineKeyOf } from '../auth/machine-key.ts'
import type { MachineKeys } from '../auth/machine-keys.ts'
import { ConfigError } from '../config/config-error.ts'
import { type Config, findRestartOnly } from '../config/config.ts'
import { loadKeys } from '../config/keys-file.ts'
import { type IssuerEvents, openIssuers } from '../issuers/open-issuers.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { SecurityLog } from '../security-log.ts'
import type { Registry } from '../streams/registry.ts'
import type { Subscription } from '../streams/subscription.ts'
import type { Directory } from '../users/directory.ts'
import { createGate, type Gate, type GateParts } from './gate.ts'
import type { UserFollower } from './follow-users.ts'
import { type KeptCdr, openCalls } from './open-calls.ts'
import type { Observer } from './observe.ts'

export const NOT_RELOADED = 'not reloaded: the running configuration stays in force'

/** What a configuration allows by itself, before any key or session is looked at. */
export interface Terms {
  readonly config: Config
  readonly policy: Policy
  /** Whether the name is one that a machine key, or a trusted issuer's users have: no source of ours is asked for it. */
  isForeign(username: string): boolean
  stillGranted: StillGranted
}

const createTerms = (config: Config, peek: Directory['peek'], cdr: KeptCdr['open']): Terms => {
  const calls = openCalls(config.calls, cdr)
  const policy = createPolicy(config.roles, calls)
  const isForeign = (username: string): boolean =>
    isMachineUser(username) || isForeignName(config.issuers.keys(), username)
  return {
    config,
    policy,
    isForeign,
    stillGranted: createStillGranted({ policy, peek, isForeign }),
  }
}

export const createTermsInForce = (
  config: Config,
  started: Keyring,
  peek: Directory['peek'],
  machineKeys: Pick<MachineKeys, 'grants' | 'stands'>,
  cdr: KeptCdr['open'],
) => {
  let terms = createTerms(config, peek, cdr)
  let keyring = started
  let issuers: readonly TrustedIssuer[] = []

  /** Whether the key that it was admitted by is still one: what a key has signed ends with it. */
  const keyStands = ({ kid, username }: Subscription): boolean => {
    const issuer = issuers.find(({ terms: { name } }) => username.startsWith(foreignName(name, '')))
    // Keys of an issuer that is away are unknown, as at a check.
    if (issuer) return kid === '' || (issuer.keys.current()?.has(kid) ?? true)
    if (kid !== '') return keyring.byKid.has(kid)
    return [...started.byKid.keys()].every((one) => keyring.byKid.has(one)) // it may be any of them
  }

  return {
    now: () => terms,
    isForeign: (username: string): boolean => terms.isForeign(username),
    /** Whether what is live would be allowed today. */
    stillAllowed(stream: Subscription): boolean {
      const { sid, username, userId, role, resource, number, action = 'subscribe' } = stream
      const key =
        terms.isForeign(username) && !isMachineUser(username) ? undefined : machineKeyOf(sid)
      if (key === sid) return machineKeys.grants(key, action, resource)
      if (key !== undefined && !machineKeys.stands(key)) return false
      const subject = { username, id: String(userId), number }
      return keyStands(stream) && terms.stillGranted(role, action, resource, subject)
    },
    /** Built, and not in force yet. */
    prepare: (next: Config) => createTerms(next, peek, cdr),
    replace(next: Terms, keys: Keyring, trusted: readonly TrustedIssuer[]): void {
      terms = next
      keyring = keys
      issuers = trusted
    },
  }
}

export type TermsInForce = ReturnType<typeof createTermsInForce>

/** The settings that changed and wait for a restart; or what is wrong, and nothing has changed. */
export type Reloaded = { ignored: readonly string[] } | { problems: readonly string[] }

export const openInForce = async (parts: {
  terms: TermsInForce
  keyring: Keyring
  gateParts: Omit<GateParts, 'today'>
  follower: UserFollower
  observer: Observer
  metrics: Metrics
  security: SecurityLog
  registry: Pick<Registry, 'review'>
  log: Log
  /** The config file as it is now; without this, a reload takes the running config again. */
  readConfig?: (() => Config) | undefined
}) => {
  const { terms, keyring, follower, observer, metrics, security, registry, log } = parts
  const started = terms.now().config
  const countKeys = ({ byKid, signing }: Keyring): void => {
    metrics.keysLoaded(byKid.size, signing.created)
  }
  const gateParts: GateParts = { ...parts.gateParts, today: () => gate.guard }

  const events: IssuerEvents = {
    ...observer.issuers,
    observe(issuer, outcome) {
      observer.issuers.observe(issuer, outcome)
      // What a key has let in that its issuer withdrew; a look at all streams, so not at each reading of the same.
      if ('keys' in outcome && outcome.areNew) registry.review()
    },
  }
  let issuers = await openIssuers(started.issuers, events)
  terms.replace(terms.now(), keyring, issuers.all)
  let gate: Gate = createGate(terms.now(), keyring, issuers.all, gateParts)
  countKeys(keyring)
  metrics.reloaded(true) // what it starts with is in force

  const applyConfig = async (next: Config, isMeant: boolean): Promise<Reloaded> => {
    const nextTerms = terms.prepare(next)
    const keys = await loadKeys(started.state.directory, { mustExist: true })
    // Before the swap: where the store cannot end what the users file asks for, nothing changes.
    const { problems } = await follower.reload(isMeant)
    if (problems.size > 0) throw new ConfigError([...problems.values()].flat())
    issuers = await openIssuers(next.issuers, events, issuers)
    gate = createGate(nextTerms, keys, issuers.all, gateParts)
    terms.replace(nextTerms, keys, issuers.all)
    countKeys(keys)
    const ignored = findRestartOnly(started, next)
    log.level = next.log.level
    security.reopen(next.log.security)
    registry.review()
    log.info({ ignored }, ignored.length > 0 ? 'reloaded; these wait for a restart' : 'reloaded')
    return { ignored }
  }

  const reload = async (given: Config | undefined, isMeant: boolean): Promise<Reloaded> => {
    try {
      const next = given ?? parts.readConfig?.() ?? terms.now().config
      const applied = await applyConfig(next, isMeant)
      metrics.reloaded(true)
      return applied
    } catch (error) {
      metrics.reloaded(false)
      /* c8 ignore next: a fault is the server's to answer */
      if (!(error instanceof ConfigError)) throw error
      log.error({ problems: error.problems }, NOT_RELOADED)
      return { problems: error.problems }
    }
  }

  let turn: Promise<unknown> = Promise.resolve()
  return {
    gate: (): Gate => gate,
    /** Where nobody asks, a key that its issuer has withdrawn would let in whoever it let in already, for good. */
    lookAtIssuers(): void {
      for (const { keys } of issuers.all) keys.current()
    },
    /**
     * Brings a new config, keys and users into force, or changes nothing. Reopens the log files. One reload at a time,
     * so that what was read last is what stays. `isMeant`: somebody asks for it, and means also a change that removes
     * most users.
     */
    reload(given?: Config, isMeant = true): Promise<Reloaded> {
      const reloaded = turn.then(() => reload(given, isMeant))
      turn = reloaded.catch(() => undefined)
      return reloaded
    },
  }
}

export type InForce = Awaited<ReturnType<typeof openInForce>>
