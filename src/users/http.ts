// Users that another service knows: a PBX or a directory is asked at each login and at each refresh.
// Only its two agreed answers count. Anything else is "away", which neither lets anyone in nor puts anyone out.
import { createHash } from 'node:crypto'
import { ConfigError } from '../config/config-error.ts'
import { findCertificateFault, readTrust, systemTrust } from '../files/certificates.ts'
import { parseObject, sendRequest } from '../http-client.ts'
import { numberOf } from './number.ts'
import type { Authentication, Lookup, User, UserSource } from './source.ts'

export interface HttpUsersOptions {
  /** POST {username, password} → 200 {name, role, display_name?, credential?, number?}, or 401. */
  loginUrl: string
  /** POST {username} → 200 with the same, or 404: gone. Spelled https://…, or http://unix:/socket:/path as in nginx. */
  lookupUrl: string
  /** Seconds for one request, answer included. */
  timeout: number
  /** A PEM file: the authorities to trust instead of the system's. */
  ca?: string | undefined
  /** Shown to the service as `Authorization: Bearer`. */
  token?: string | undefined
  /** Passwords in the clear over a network: only if it is a private one, and the operator says so. */
  allowPlain?: boolean | undefined
  /** The price of one real check, paid for a wrong password; the directory pays it for strangers. */
  hashDecoy(username: string): Promise<unknown> | undefined
  /** Called once for each kind of trouble: what is wrong with which address, and the cure. */
  onProblem(problem: string): void
}

const MAX_ANSWER = 16 * 1024 // bytes; a real answer has 200
const MAX_IN_FLIGHT = 32 // logins, and as many look-ups: a PBX's PHP pool is smaller than that
const AWAY = { unavailable: 'source_away' } as const
const AWAY_FOR_LOGINS = { ...AWAY, retryAfter: 2 } // seconds
const CA_FILE = 'http_users.ca_file'

interface Endpoint {
  setting: 'login_url' | 'lookup_url'
  url: URL
  socketPath: string | undefined
}

/** Of a URL's host, which is normalized: 127.1 reads 127.0.0.1 there. */
const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(host)

const parseEndpoint = (
  setting: Endpoint['setting'],
  text: string,
  allowPlain: boolean,
): Endpoint | { problem: string } => {
  const unix = /^http:\/\/unix:(\/[^:]+):(\/.*)$/.exec(text)
  const url = URL.parse(unix ? `http://localhost${unix[2]}` : text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    return {
      problem: `http_users.${setting}: no address: write https://…, or http://unix:/socket:/path`,
    }
  }
  if (url.username !== '' || url.password !== '') {
    return { problem: `http_users.${setting}: holds a login: use http_users.token_file instead` }
  }
  if (url.protocol === 'http:' && !unix && !allowPlain && !isLoopback(url.hostname)) {
    return {
      problem: `http_users.${setting}: would send passwords in the clear: write https://, or set http_users.allow_plain on purpose`,
    }
  }
  return { setting, url, socketPath: unix?.[1] }
}

/** One line of text that may stand in a log or a header. */
const isLine = (value: unknown, longest: number): value is string =>
  typeof value === 'string' && value.length <= longest && !/[\x00-\x1f\x7f]/.test(value)

/** The user that was asked for; any other name is an answer to another question. */
const parseUser = (text: string, username: string): User | undefined => {
  const answer = parseObject(text)
  if (answer === undefined) return undefined
  const { name, role, display_name: displayName = username, credential = '' } = answer
  const { number = username } = answer
  if (name !== username) return undefined
  if (!isLine(role, 64) || role === '' || !isLine(displayName, 256)) return undefined
  if (typeof credential !== 'string') return undefined
  const mark = credential && createHash('sha256').update(credential).digest('hex').slice(0, 16)
  return { name: username, role, displayName, credential: mark, ...numberOf(number) }
}

/** What the service says of the user that was asked for: 401 or 404 is `no`. */
type Answer = { user: User } | 'no' | 'away'

/** Throws a ConfigError with every problem. */
export const openHttpUsers = (options: HttpUsersOptions): UserSource => {
  const { timeout, token, hashDecoy, allowPlain = false } = options
  const problems: string[] = []
  const accept = <Part extends object>(part: Part | { problem: string }): Part | undefined => {
    if (!('problem' in part)) return part
    problems.push(part.problem)
    return undefined
  }
  const login = accept(parseEndpoint('login_url', options.loginUrl, allowPlain))
  const look = accept(parseEndpoint('lookup_url', options.lookupUrl, allowPlain))
  const trust = options.ca === undefined ? undefined : accept(readTrust(options.ca, CA_FILE))
  // Anything else would be a second header, or a fault at every login.
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    problems.push('http_users.token_file: must hold printable ASCII without blanks')
  }
  if (!login || !look || problems.length > 0) throw new ConfigError(problems)

  // Read now: the first login, and every check beside it, would else wait for it.
  if (!trust && [login, look].some(({ url }) => url.protocol === 'https:')) systemTrust()

  const closing = new AbortController()
  const reported: Record<Endpoint['setting'], string> = { login_url: '', lookup_url: '' }

  const report = ({ setting }: Endpoint, problem: string): void => {
    if (problem !== '' && problem !== reported[setting] && !closing.signal.aborted) {
      options.onProblem(`${setting}: ${problem}`)
    }
    reported[setting] = problem
  }

  /** `no`: the status that means it, beside 200. */
  const ask = async (
    endpoint: Endpoint,
    question: { username: string; password?: string },
    no: number,
  ): Promise<Answer> => {
    const away = (problem: string): 'away' => {
      report(endpoint, problem)
      return 'away'
    }
    const exchange = await sendRequest({
      method: 'POST',
      url: endpoint.url,
      socketPath: endpoint.socketPath,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify(question),
      timeout,
      maxBytes: MAX_ANSWER,
      trust,
      signal: closing.signal,
    })
    if ('failed' in exchange) {
      const cure =
        findCertificateFault(exchange.failed, { name: CA_FILE, restart: true }) ??
        'check the address and that service'
      return away(`no complete answer (${exchange.failed}): ${cure}`)
    }
    const { status, body } = exchange
    if (status !== 200 && status !== no) {
      return away(
        `answered ${status}, which is neither 200 nor ${no}: correct the address or that service (redirects are not followed)`,
      )
    }
    // A web server's own error page: the address is wrong, and every user would be "gone".
    if (status === no && body.trim() !== '' && parseObject(body) === undefined) {
      return away(`answered ${status} with a page instead of JSON or nothing: correct the address`)
    }
    const user = status === no ? undefined : parseUser(body, question.username)
    if (status === 200 && !user) {
      return away(
        'answered 200 without {"name": as asked, "role": …} in JSON: correct that service',
      )
    }
    report(endpoint, '')
    return user ? { user } : 'no'
  }

  const askLookup = async (username: string): Promise<Lookup> => {
    const answer = await ask(look, { username }, 404)
    if (answer === 'away') return AWAY
    return answer === 'no' ? { refused: 'unknown_user' } : answer
  }

  const askLogin = async (username: string, password: string): Promise<Authentication> => {
    const answer = await ask(login, { username, password }, 401)
    if (answer === 'away') return AWAY_FOR_LOGINS
    if (answer !== 'no') return answer
    // A 401 does not say whether the name is known; only if it is not may the next source be asked.
    const known = await askLookup(username)
    if ('refused' in known) return { refused: 'unknown_user' }
    // Also if the look-up failed: the password was checked, and a guess that is not counted would be free.
    await hashDecoy(username)
    return { refused: 'wrong_password' }
  }

  /** Two budgets: a flood of logins must not keep sessions from being refreshed. */
  const inFlight = { logins: 0, lookups: 0 }
  const within = async <Result>(
    budget: keyof typeof inFlight,
    ask: () => Promise<Result>,
    full: Result,
  ): Promise<Result> => {
    if (inFlight[budget] >= MAX_IN_FLIGHT || closing.signal.aborted) return full
    inFlight[budget]++
    try {
      return await ask()
    } finally {
      inFlight[budget]--
    }
  }

  return {
    name: 'http',
    authenticate: (username, password) =>
      within('logins', () => askLogin(username, password), AWAY_FOR_LOGINS),
    lookup: (username) => within('lookups', () => askLookup(username), AWAY),
    peek: () => undefined,
    names: () => [],
    reread: async () => [],
    close() {
      closing.abort()
    },
  }
}
