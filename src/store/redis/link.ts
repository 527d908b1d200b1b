// The connection to Redis: one for commands, one for messages, each made anew when it breaks. A call waits a
// quarter of a second and then fails; nothing is ever queued for a server that is away. It must never send a
// call twice: a rotation that was cut off may have happened.

import { systemClock, type Time } from '../../clock.ts'
import { readTrust, systemTrust, type Trust } from '../../files/certificates.ts'
import { parseRedisUrl } from './address.ts'
import { CONNECT_WITHIN, createDial, discard, loadPackage, type Wire } from './dial.ts'
import { CA_FILE, faultCode, redisFault, toRedisFault } from './fault.ts'
import type { Script } from './scripts.ts'
import { StoreError } from '../store.ts'

export type Argument = string | number | Buffer

export interface LinkSettings {
  url: string
  /** In the place of the url's own. */
  password?: string | undefined
  /** A file with the certificates (PEM) of who signed the server's. */
  ca?: string | undefined
  /** Seconds that the server may be silent while a call waits. */
  timeout: number
  /** What is published to; none: nothing is listened to. */
  channels: readonly string[]
  clock?: Time
}

export interface LinkEvents {
  /** Commands go through again. */
  up(): void
  /** They do not; said for every attempt that failed. */
  down(fault: StoreError): void
  /** Messages arrive from now on: what came before is lost. */
  listening(): void
  message(channel: string, text: string): void
}

const MAX_UNANSWERED = 4096 // as many as the embedded store takes
const IN_A_CROWD = 4 // times the timeout: how long a call waits behind others, when the server does answer
const LOOK_EVERY = 0.025 // seconds: how exact the limits are
const FIRST_RETRY = 0.05 // seconds, then doubled
const LAST_RETRY = 0.5 // seconds: with CONNECT_WITHIN it heals in less than 2
const STEADY = 2 // seconds that a connection must have held for the next retry to be a first one

export const loadTrust = (file: string | undefined, isUsed: boolean): Trust | undefined => {
  if (file === undefined) return isUsed ? systemTrust() : undefined
  const trust = readTrust(file, CA_FILE)
  if ('problem' in trust) throw new StoreError('missing', trust.problem)
  return trust
}

/**
 * Resolves after the first attempt, whether it succeeded or not: a server that is away at start heals like any
 * other. Rejects where no attempt could ever succeed (url, ca file).
 */
export const openLink = async (
  { url, password, ca, timeout, channels, clock = systemClock }: LinkSettings,
  events: Partial<LinkEvents> = {},
) => {
  const parsed = parseRedisUrl(url)
  const address = { ...parsed, password: password ?? parsed.password }
  const trust = loadTrust(ca, address.tls)
  const dial = createDial(await loadPackage(), address, trust)
  const { label } = address
  const closing = new AbortController()

  /** Connects and connects again until closed. `use` is what a connection is for. */
  const hold = async (
    use: (wire: Wire, lose: (error: unknown) => void) => Promise<void>,
    failed: (error: unknown) => void,
  ): Promise<void> => {
    let delay = FIRST_RETRY
    while (!closing.signal.aborted) {
      const startedAt = clock.monotonic()
      const lost = Promise.withResolvers<never>()
      const wire = dial(lost.reject)
      const cancel = clock.deadline(CONNECT_WITHIN, () =>
        lost.reject(redisFault('ETIMEDOUT', label)),
      )
      const quit = (): void => lost.reject(new StoreError('unavailable', 'the store is closed'))
      closing.signal.addEventListener('abort', quit)
      const connect = async (): Promise<never> => {
        await wire.connect()
        await use(wire, lost.reject)
        cancel()
        return lost.promise
      }
      await Promise.race([connect(), lost.promise]).catch(failed)
      cancel()
      closing.signal.removeEventListener('abort', quit)
      await discard(wire)
      delay = clock.monotonic() - startedAt > STEADY ? FIRST_RETRY : delay
      // Spread, so that a hundred hosts do not come back in the same millisecond.
      const wait = delay * (0.5 + clock.chance() / 2)
      delay = Math.min(delay * 2, LAST_RETRY)
      await clock.wait(wait, closing.signal)
    }
  }

  interface Waiting {
    askedAt: number
    reject(error: unknown): void
  }
  const waiting = new Set<Waiting>()
  let current: { wire: Wire; lose(error: unknown): void; unanswered: number } | undefined
  let fault = new StoreError('unavailable', `${label}: not connected yet`)
  let answeredAt = 0
  let watching = false

  const look = (): void => {
    watching = false
    const now = clock.monotonic()
    if (waiting.size > 0 && now - answeredAt > timeout) {
      current?.lose(redisFault('ETIMEDOUT', label))
      return
    }
    for (const caller of waiting) {
      if (now - caller.askedAt <= timeout * IN_A_CROWD) break // oldest first
      waiting.delete(caller)
      caller.reject(new StoreError('busy', `${label} is overloaded: try again`))
    }
    watch()
  }
  const watch = (): void => {
    if (watching || waiting.size === 0) return
    watching = true
    clock.deadline(LOOK_EVERY, look)
  }

  const attempted = Promise.withResolvers<void>()
  void hold(
    async (wire, lose) => {
      current = { wire, lose, unanswered: 0 }
      attempted.resolve()
      events.up?.()
      await Promise.resolve()
    },
    (error) => {
      current = undefined
      fault = toRedisFault(error, label)
      const cutOff = [...waiting]
      waiting.clear()
      for (const { reject } of cutOff) reject(fault)
      attempted.resolve()
      if (!closing.signal.aborted) events.down?.(fault)
    },
  )
  if (channels.length > 0)
    void hold(
      async (wire) => {
        await wire.subscribe([...channels], (text, channel) => events.message?.(channel, text))
        events.listening?.()
      },
      () => undefined, // the poll makes up for it, and the other connection says why
    )

  const send = async (args: (string | Buffer)[]): Promise<unknown> => {
    const connection = current
    if (!connection) throw fault
    // Also those that nobody waits for any more: they still stand in the client's queue.
    if (connection.unanswered >= MAX_UNANSWERED) {
      throw new StoreError('busy', `${label} is overloaded: try again`)
    }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const caller: Waiting = { askedAt: clock.monotonic(), reject }
    if (connection.unanswered++ === 0) answeredAt = caller.askedAt
    waiting.add(caller)
    watch()
    connection.wire
      .send(args)
      .finally(() => {
        connection.unanswered--
        waiting.delete(caller)
        if (connection === current) answeredAt = clock.monotonic()
      })
      .then(resolve, (error: unknown) => reject(toRedisFault(error, label)))
    return promise
  }

  await attempted.promise
  return {
    /** For people: the server without its credentials. */
    label,
    /** One atomic step. Rejects with a StoreError: then it may have happened or not. */
    async run(script: Script, key: string, args: readonly Argument[] = []): Promise<unknown> {
      const rest = ['1', key, ...args.map((arg) => (typeof arg === 'number' ? String(arg) : arg))]
      return send(['EVALSHA', script.sha, ...rest]).catch((error: StoreError) => {
        if (faultCode(error.cause) !== 'NOSCRIPT') throw error
        return send(['EVAL', script.text, ...rest]) // nothing ran: this is the first time
      })
    },
    /** What the server says of itself. */
    info: async (section: string) => String(await send(['INFO', section])),
    /** One of its settings; undefined where it does not say, for instance because its ACL forbids us to ask. */
    async setting(name: string): Promise<string | undefined> {
      const reply = await send(['CONFIG', 'GET', name]).catch(() => undefined)
      const value = (Object(reply) as Record<string, unknown>)[name]
      return typeof value === 'string' ? value : undefined
    },
    /** Lets go of the server and tries anew, where its answers say that it is the wrong one. */
    drop(reason: StoreError): void {
      current?.lose(reason)
    },
    close(): void {
      closing.abort()
    },
  }
}

export type Link = Awaited<ReturnType<typeof openLink>>
