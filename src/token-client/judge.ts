// One answer of a login → a token, or why there is none and what to do about it. Pure. It never puts
// text of the server into a message, save the origin that a redirect leads to.

import type { IncomingHttpHeaders } from 'node:http'

import { findCertificateFault } from '../files/certificates.ts'
import { type Exchange, type Failure, parseObject } from '../http-client.ts'

export type Verdict =
  | { token: string; secondsLeft: number }
  | {
      /** 1 refused, 2 transport, 3 unusable answer: the exit code, once nothing is left to try. */
      exit: 1 | 2 | 3
      message: string
      /** Present: another attempt may help; seconds that the server asks to wait, 0 where it does not say. */
      retryAfter?: number
    }

export interface Question {
  url: URL
  login: string
  timeout: number
  /** Unix time at which the answer came. */
  now: number
}

/** Text for a terminal: an escape sequence in a server's answer must not reach it. */
const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)

const API_BASE = 'MIKOPBX_API_URL must be the API base, ending in /pbxcore/api/v3.'

const STAGES: Record<Failure['stage'], string> = {
  connect: 'no connection came about: check the address, the port and a firewall on the way',
  answer:
    'connected, but no answer came: check that the web server is not overloaded, or raise --timeout',
  body: 'the answer began but did not end: check what sits in between, or raise --timeout',
}

/** What may be over in a second. */
const describeTransport = ({ failed, stage }: Failure, { url, timeout }: Question): string => {
  switch (failed) {
    case 'ECONNREFUSED':
      return `Connection refused: nothing listens at ${url.origin}. Start MikoPBX (or its container), or correct MIKOPBX_API_URL.`
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `Unknown host ${url.hostname} (DNS: ${failed}). Check the name in MIKOPBX_API_URL and the name server of this machine.`
    case 'TIMEOUT':
      return `Time-out after ${timeout} s at ${url.origin}: ${STAGES[stage]}.`
    case 'CLOSED':
      return `${url.origin} closed the connection without an answer: look into its log, and check the port in MIKOPBX_API_URL.`
    case 'HALF_ANSWER':
      return `Only half an answer came from ${url.origin}: look into its log and at what sits in between.`
    default:
      return `No connection to ${url.origin} (${failed}). Check MIKOPBX_API_URL and the network.`
  }
}

/** Why nothing, or not everything, arrived. A certificate stays wrong however often it is asked for. */
const judgeFailure = (failure: Failure, question: Question): Verdict => {
  const { failed } = failure
  const { url } = question
  const certificate = findCertificateFault(failed, { name: '--cacert' })
  if (certificate !== undefined) {
    return {
      exit: 2,
      message: `SSL certificate problem at ${url.origin}: ${certificate}. --insecure skips the check, for a test machine only.`,
    }
  }
  if (failed === 'EPROTO' || failed.startsWith('ERR_SSL_')) {
    return {
      exit: 2,
      message: `No TLS at ${url.origin} (${failed}): check the port in MIKOPBX_API_URL, or use http:// if the server speaks plain HTTP there.`,
    }
  }
  if (failed.startsWith('HPE_')) {
    return {
      exit: 2,
      message: `${url.origin} does not speak HTTP (${failed}): check the port in MIKOPBX_API_URL, or use https:// if the server speaks TLS there.`,
    }
  }
  if (failed === 'TOO_LARGE') {
    return {
      exit: 3,
      message: `Unusable answer from ${url.href}: far too large for a login. Check MIKOPBX_API_URL.`,
    }
  }
  return { exit: 2, message: describeTransport(failure, question), retryAfter: 0 }
}

/** RFC 9110 §10.2.3: seconds, or a date. */
const readRetryAfter = (headers: IncomingHttpHeaders, now: number): number | undefined => {
  const text = headers['retry-after']
  if (text === undefined) return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  const date = Date.parse(text)
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil(date / 1000 - now))
}

/** The server's name alone: a path or query could repeat what was sent. */
const redirectTarget = (location: string | undefined, url: URL): string => {
  const origin = URL.parse(location ?? '', url.href)?.origin
  return origin === undefined || origin === url.origin ? '' : ` to ${printable(origin)}`
}

const judgeToken = (body: string, { url, now }: Question): Verdict => {
  const unusable = (message: string): Verdict => ({
    exit: 3,
    message: `Unusable answer from ${url.href}: ${message}`,
  })
  const answer = parseObject(body)
  if (!answer) return unusable(`no JSON object. ${API_BASE}`)
  const { accessToken: token } = Object(answer['data']) as { accessToken?: unknown }
  if (typeof token !== 'string' || token === '')
    return unusable(`no data.accessToken in it. ${API_BASE}`)
  // The alphabet is what keeps stdout to one line: a newline inside a "token" would be a second one.
  const payload = /^[\w-]+\.([\w-]+)\.[\w-]+$/.exec(token)?.[1]
  if (payload === undefined)
    return unusable('the token has not the three parts of a JWT. Update the server.')
  const exp = parseObject(Buffer.from(payload, 'base64url').toString('utf8'))?.['exp']
  if (typeof exp !== 'number')
    return unusable('the token is no JWT with an expiry. Update the server.')
  if (exp <= now) {
    return unusable(
      `Token expired: ${Math.ceil(now - exp)} s before it arrived. Compare the clocks of both machines (date -u).`,
    )
  }
  return { token, secondsLeft: Math.floor(exp - now) }
}

const tryAgainIn = (seconds: number | undefined): string =>
  seconds === undefined
    ? 'The server does not say how long to wait: try again in a few minutes'
    : `Wait ${seconds} s, then run it again`

export const judge = (exchange: Exchange, question: Question): Verdict => {
  if ('failed' in exchange) return judgeFailure(exchange, question)
  const { status, headers, body } = exchange
  const { url, login, now } = question
  const retryAfter = readRetryAfter(headers, now)

  if (status === 401) {
    return {
      exit: 1,
      message: `Invalid credentials: the server refused the login "${printable(login)}". Verify MIKOPBX_LOGIN and MIKOPBX_PASSWORD.`,
    }
  }
  if (status === 429) {
    const message = `Refused for now (429): too many logins. ${tryAgainIn(retryAfter)}.`
    return retryAfter === undefined ? { exit: 1, message } : { exit: 1, message, retryAfter }
  }
  if (status === 502 || status === 503 || status === 504) {
    return {
      exit: 2,
      message: `${url.origin} is not ready (${status}): its API behind the web server is down or overloaded. ${tryAgainIn(retryAfter)}.`,
      retryAfter: retryAfter ?? 0,
    }
  }
  if (status >= 500) {
    return { exit: 2, message: `${url.origin} failed (${status}): look into its log.` }
  }
  if (status >= 300 && status < 400) {
    return {
      exit: 3,
      message: `Unusable answer: ${url.href} redirects (${status})${redirectTarget(headers.location, url)}, which is not followed since the password would go along. Correct MIKOPBX_API_URL (https:// instead of http://?).`,
    }
  }
  if (status >= 400) {
    return {
      exit: 3,
      message: `Unusable answer: ${url.href} answered ${status}. ${API_BASE}`,
    }
  }
  return judgeToken(body, question)
}
