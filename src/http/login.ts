// A login as both dialects answer it: which names and passwords are looked at, and who is told what of a failure.
// Whether the name or the password was wrong is said in the security log, never to the client (ASVS 6.3.8).

import type { IssuedTokens, Login, LoginFailure, LoginRequest, LoginResult } from '../auth/login.ts'
import { challenge, failure, type Reply, retryAfter, type SecurityEvent } from './reply.ts'
import { type Handler, readAgent, type Request } from './request.ts'

const MAX_NAME = 256 // bytes; far above any user's, and what the log would cut anyway
const MAX_PASSWORD = 1024 // bytes; hashing costs the same for all of them

const FAILURES: Readonly<Record<LoginFailure, string>> = {
  unknown_user: 'unknown user',
  wrong_password: 'wrong password',
  disabled: 'user is disabled',
}

/** What a login leaves in the security log. */
export const loginEvents = (user: string, result: LoginResult): SecurityEvent[] => {
  if ('issued' in result) {
    return [{ name: 'AUTH_SUCCESS', message: 'logged in', user, sid: result.issued.session.sid }]
  }
  if ('refused' in result) return [{ name: 'AUTH_FAILED', message: FAILURES[result.refused], user }]
  if (!('throttled' in result) || !result.first) return []
  return [{ name: 'BANNED', message: `too many failed logins (${result.throttled})`, user }]
}

/** The metric label of a login: one word of a closed list. */
export const loginLabel = (result: LoginResult): string => {
  if ('issued' in result) return 'succeeded'
  if ('refused' in result) return result.refused
  return 'throttled' in result ? 'throttled' : result.unavailable
}

/** A name and a password, or what is wrong with them; `field` is what the dialect calls the name. */
export const readAccount = (
  username: unknown,
  password: unknown,
  field: string,
): { username: string; password: string } | { problem: string } => {
  if (typeof username !== 'string' || typeof password !== 'string') {
    return { problem: `${field} and password are required` }
  }
  if (!username.isWellFormed() || !password.isWellFormed()) {
    return { problem: 'Not valid Unicode text' }
  }
  if (Buffer.byteLength(username) > MAX_NAME || Buffer.byteLength(password) > MAX_PASSWORD) {
    return { problem: `${field} or password is too long` }
  }
  return { username, password }
}

/** The same words whatever was wrong. */
export const refuseLogin = (events: readonly SecurityEvent[]): Reply =>
  failure(401, 'Invalid credentials: look at the name and the password', {
    headers: ['WWW-Authenticate', challenge({ refused: 'no_credential' })],
    events,
  })

/** What a client sends. */
export type LoginFields = Omit<LoginRequest, 'address' | 'agent'>

export interface LoginParts {
  login: Login
  observe: { login(result: LoginResult): void }
}

export const createLoginHandler = <Fields extends LoginFields>(
  { login, observe }: LoginParts,
  dialect: {
    read(request: Request): Promise<Fields | Reply>
    welcome(issued: IssuedTokens, asked: Fields, request: Request): Reply
  },
): Handler => {
  const { read, welcome } = dialect
  return async (request) => {
    const asked = await read(request)
    if ('status' in asked) return asked
    const { address, headers } = request
    const result = await login({ ...asked, address, agent: readAgent(headers) })
    observe.login(result)
    const events = loginEvents(asked.username, result)
    if ('issued' in result) return { ...welcome(result.issued, asked, request), events }
    if ('refused' in result) return refuseLogin(events)
    const more = { headers: retryAfter(result.retryAfter), events }
    return 'throttled' in result
      ? failure(429, 'Too many failed attempts: try again later', more)
      : failure(503, 'Try again later', more)
  }
}
