// What was seen → metric, log line, security line. Nothing is decided here, and nobody waits for it.

import type { Reason } from '../auth/decision.ts'
import { IssuerAwayError } from '../auth/issuer.ts'
import { throttleAddress } from '../auth/throttle.ts'
import type { Time } from '../clock.ts'
import type { Reply, SecurityEvent } from '../http/reply.ts'
import type { Request } from '../http/request.ts'
import type { ServerParts } from '../http/server.ts'
import type { IssuerEvents } from '../issuers/open-issuers.ts'
import { createLogLimit, type LogLimit } from '../log-limit.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { SecurityLog } from '../security-log.ts'
import { type EndedSession, StoreError } from '../store/store.ts'
import { KickSocketError } from '../streams/kicker.ts'
import { UncuttableError, type Why, WHYS } from '../streams/means.ts'
import { type Loss, StreamFileError } from '../streams/stream-file.ts'
import type { UserSource } from '../users/source.ts'

const NOBODY = '-'
const TOO_LARGE = 431

/** What anybody can cause without a credential, and so flood a log with. Who was let in stands, each of them. */
const REFUSAL = /^(?:AUTH_FAILED|BANNED|.+_DENIED)$/

const OWN_PAGE = new Set([undefined, 'same-origin', 'none'])

/** Of a refusal whose cure is the operator's: that cure. */
const refusalWords = (reason: Reason, detail: Reply['detail']): string => {
  if (reason !== 'cross_site') return 'refused'
  return OWN_PAGE.has(detail?.['fetchSite'])
    ? 'refused as another site: if the origin is this site, add it to site.origins'
    : 'refused as another site, as the browser itself says; site.origins changes nothing: a cookie counts for pages of the host that is asked'
}

const MOST_FRONTS = 8 // a stranger with two logins may look like one
const HOUR = 3600 // seconds: what stands in nginx's configuration is not news each time
const KINDS = [StoreError, KickSocketError, StreamFileError, UncuttableError]

/** The metric label of a fault. */
const kindOf = (error: unknown): string => {
  if (error instanceof IssuerAwayError) return 'issuer_away'
  if (error instanceof KickSocketError) return 'kick_socket_away'
  if (error instanceof UncuttableError) return 'stream_uncuttable'
  if (error instanceof StreamFileError) return 'streams_unwritten'
  return error instanceof StoreError ? `store_${error.code}` : 'internal'
}

export const createObserver = (parts: {
  metrics: Metrics
  log: Log
  security: SecurityLog
  limit: LogLimit
  /** Of refusals in the security log: by address (IPv6: /64) and reason. */
  addressLimit: LogLimit
  clock: Time
}) => {
  const { metrics, log, security, limit, addressLimit, clock } = parts
  let namesInHeader = false
  const uncuttable = new Map<Why, number>()
  const fronts = new Set<string>()
  const hourly = createLogLimit(clock, { most: 1, window: HOUR })

  const securityEvent = (event: SecurityEvent, address: string): void => {
    const { name, message, sid, user = '-' } = event
    if (
      !REFUSAL.test(name) ||
      addressLimit.allows(`${throttleAddress(address)} ${name} ${message}`)
    )
      security.write({ event: name, message, address, user }, clock.date())
    if (!limit.allows(name)) return
    log.info({ event: name, user: user.slice(0, 256), address, sid }, message)
  }

  /** Once per outage, and once when it is over. */
  const outage =
    (lost: string, over: string) =>
    (fault: Error | undefined): void => {
      if (fault) log.error({ problem: fault.message }, lost)
      else log.info(over)
    }

  return {
    /** Of the security log, a line for each address and reason. No jail counts it: the first lines stand. */
    sayLeftOut(): void {
      for (const { kind, count } of addressLimit.takeSuppressed()) {
        const [address = '', ...what] = kind.split(' ')
        const message = `${count} more: ${what.join(' ')}`
        security.write({ event: 'LEFT_OUT', message, address, user: NOBODY }, clock.date())
      }
    },
    sessionEnded({ sid, username, cause }: EndedSession): void {
      metrics.sessionsEnded(cause)
      // A logout and a reuse have lines of their own, with the client's address.
      if (cause === 'logout' || cause === 'refresh_reused') return
      securityEvent({ name: 'SESSION_ENDED', message: cause, user: username, sid }, NOBODY)
    },
    /** Without a client. */
    ordered(event: SecurityEvent): void {
      securityEvent(event, NOBODY)
    },
    /** Of a check; for one version. */
    resourceNamed(inHeader: boolean): void {
      if (inHeader && !namesInHeader && limit.allows('old_nginx_files')) {
        log.warn(
          'nginx asks by files of 0.1.0, which serve no name beyond ASCII, and which the next version will not answer: `nginx -t && systemctl reload nginx`',
        )
      }
      namesInHeader = inHeader
    },
    /** Whether the last check did. */
    namesInHeader: () => namesInHeader,
    /** As the daemon stops. */
    endsLost(count: number): void {
      if (count === 0) return
      log.error(
        { count },
        'ends of sessions could not be written and are lost: what they were to end goes on after the next start: end it again (`postern session end`)',
      )
    },
    hashingNotNiced(error: unknown): void {
      log.warn(
        { err: error },
        'password hashing keeps its full priority: setpriority is not allowed',
      )
    },
    cutter: outage(
      'no stream can be cut: subscriptions are ended through Nchan, what else is followed goes on to its end',
      'the cutter answers again',
    ),
    cutRefused(why: string): void {
      if (!limit.allows('cut_refused')) return
      log.error({ why }, 'the cutter refuses to end a live stream: tried again until it does')
    },
    uncuttable(why: Why): void {
      metrics.uncuttable(why)
      uncuttable.set(why, (uncuttable.get(why) ?? 0) + 1)
      if (hourly.allows(why)) log.warn({ why }, `streams cannot be cut: ${WHYS[why]}`)
    },
    /** Several users' streams came over one connection. */
    crowd(connection: string): void {
      const [peer = ''] = connection.split(' ')
      if (fronts.size < MOST_FRONTS) fronts.add(peer)
      if (fronts.has(peer) && hourly.allows(peer)) {
        log.warn(
          { peer },
          'several users come over one connection from there, and end together: where it is a proxy, name it in `set_real_ip_from`, and let it speak HTTP/1.1 to nginx',
        )
      }
    },
    fronts: () => [...fronts],
    countUncuttable: () => Object.fromEntries(uncuttable),
    streamFault(error: unknown): void {
      log.error({ err: error }, 'a live stream could not be ended: tried again until it works')
    },
    kickSocket: outage(
      'no new stream is let in: nothing could end it',
      'nginx answers on its kick socket again: new streams are let in',
    ),
    streamFile: outage(
      'no new stream is let in: after a crash nothing would end it',
      'the list of streams is written again: new streams are let in',
    ),
    streamsLost(loss: Loss): void {
      log.error(
        { loss },
        'the list of streams was lost while nginx holds some: they may go on after their session has ended, until `systemctl reload nginx`',
      )
    },
    /** `guessed`: nginx's processes cannot be read. */
    workerDied(pids: readonly string[], guessed: boolean): void {
      log.error(
        { pids, guessed },
        'a worker of nginx died: streams on the others may go on after their session has ended, until `systemctl reload nginx`',
      )
    },
    workersReplaced(): void {
      log.info('nginx has new workers: no stream is left that could not be ended')
    },
    /** At the start. Nothing of an HTTP source is loaded: it is asked at each login. */
    usersLoaded(sources: readonly UserSource['name'][]): void {
      for (const source of sources) {
        if (source === 'http') continue
        metrics.usersLoaded(source, true)
        metrics.usersHeldBack(source, 0)
      }
    },
    usersRead(source: UserSource['name'], changes: number): void {
      metrics.usersLoaded(source, true)
      metrics.usersHeldBack(source, 0)
      log.info({ source, changes }, 'users were read again')
    },
    usersHeldBack(source: UserSource['name'], removed: number, of: number): void {
      metrics.usersHeldBack(source, removed)
      log.error(
        { source, removed, of },
        'a change that would remove most users is held back: mend the file, or run `postern reload` if it is meant',
      )
    },
    /** Who is logged in is in no source. */
    usersMissing(source: UserSource['name'], missing: number, of: number): void {
      metrics.usersHeldBack(source, missing)
      log.error(
        { missing, of },
        'most users are missing: who is logged in and in no user source stays out, and their sessions are kept: mend the users file, or run `postern reload` if it is meant',
      )
    },
    usersFound(source: UserSource['name']): void {
      metrics.usersHeldBack(source, 0)
      log.info('no sessions of missing users are kept any more')
    },
    usersBroken(source: UserSource['name'], problems: readonly string[]): void {
      if (source === 'http') metrics.faulted('user_source_away')
      else {
        metrics.usersLoaded(source, false)
        metrics.usersHeldBack(source, 0) // what was held back is gone with the reading that had it
      }
      log.error({ source, problems }, 'a user source is broken: its last good state stays in force')
    },
    cdr: {
      onRead(recordings: number): void {
        log.info({ recordings }, 'the CDR is read, and followed')
      },
      onProblem(problem: string): void {
        log.error({ problem }, 'the CDR cannot be read: what it told before stays in force')
      },
      onDoubt(doubt: string): void {
        log.warn(doubt)
      },
    },
    issuers: {
      clock,
      observe(issuer, outcome) {
        if ('keys' in outcome) metrics.issuerKeys(issuer, outcome.keys)
      },
      onProblem(problem) {
        log.error({ problem }, 'a trusted issuer gives no keys: those known before stay in force')
      },
    } satisfies IssuerEvents,
    /** What a server tells of its requests. */
    requests: {
      observe({ route, status, reason, detail }) {
        if (route !== 'check') metrics.answered(route, status)
        if (status === TOO_LARGE && limit.allows('headers')) {
          log.warn(
            { status },
            'headers of more than 48 KiB were refused: nginx lets them through by its large_client_header_buffers (32 KiB by default)',
          )
        } else if (reason === undefined) log.debug({ route, status }, 'answered')
        else if (limit.allows(`${route} ${reason}`))
          log.info({ route, status, reason, ...detail }, refusalWords(reason, detail))
      },
      onEvents(events: readonly SecurityEvent[], { address }: Request) {
        for (const event of events) securityEvent(event, address)
      },
      onFault(error, route) {
        const kind = kindOf(error)
        metrics.faulted(kind)
        // While the store is away every check is a fault.
        if (!limit.allows(kind)) return
        // These are told whole by their message; of any other the stack is needed.
        const isTold = KINDS.some((kind) => error instanceof kind)
        const what = isTold ? { problem: (error as Error).message } : { err: error }
        log.error({ ...what, route }, 'a request could not be decided')
      },
    } satisfies Pick<ServerParts, 'observe' | 'onEvents' | 'onFault'>,
  }
}

export type Observer = ReturnType<typeof createObserver>
