// POST /auth/login: JSON in, tokens out. Whatever is wrong with a name and password, the client hears one
// sentence; which of it was, only the operator's log knows (ASVS 6.3.8).

import type { Login, LoginResult } from '../../auth/login.ts'
import { parseJsonBody } from '../body.ts'
import { type CookieSecurity, isSecure } from '../cookie.ts'
import { isCrossSite } from '../cross-site.ts'
import { loginEvents } from '../login-events.ts'
import { challenge } from '../reply.ts'
import { type Handler, readAgent } from '../request.ts'
import { accessCookie, failure, success } from './reply.ts'

const MAX_NAME = 256 // bytes; far above any user's, and what the log would cut anyway
const MAX_PASSWORD = 1024 // bytes; hashing costs the same for all of them

// Where browsers hold plain http for a secure context, since nobody listens in.
const LOOPBACK = /^(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/

const fits = (text: string, max: number): boolean => Buffer.byteLength(text) <= max

export const createLoginHandler = (parts: {
  login: Login
  cookieSecurity: CookieSecurity
  now(): number
  observe(result: LoginResult): void
}): Handler => {
  const { login, cookieSecurity, now, observe } = parts
  const bad = (error: string) => failure(400, error, now())
  return async (request) => {
    const body = await request.body()
    if (!Buffer.isBuffer(body)) return body
    const fields = parseJsonBody(request.headers, body)
    if (!fields) return bad('The body must be a JSON object, sent as application/json')
    const { username, password, cookie } = fields as Record<
      'username' | 'password' | 'cookie',
      unknown
    >
    if (typeof username !== 'string' || typeof password !== 'string') {
      return bad('Username and password are required')
    }
    if (username === '' || password === '') return bad('Username and password are required')
    if (!username.isWellFormed() || !password.isWellFormed()) return bad('Not valid Unicode text')
    if (!fits(username, MAX_NAME) || !fits(password, MAX_PASSWORD)) {
      return bad('Username or password is too long')
    }
    const secure = isSecure(request.headers, cookieSecurity)
    if (cookie === true) {
      // Login CSRF: another site's page would log its visitor in as somebody else.
      if (isCrossSite(request.headers)) return failure(403, 'Cross-site login is refused', now())
      if (!secure && !LOOPBACK.test(request.headers.get('x-forwarded-host') ?? '')) {
        return bad('A cookie needs https: use it, or log in without "cookie"')
      }
    }
    const result = await login({
      username,
      password,
      address: request.address,
      agent: readAgent(request.headers),
      language: 'en',
      persistent: false,
    })
    observe(result)
    const events = loginEvents(username, result)
    if ('issued' in result) {
      const { accessToken, refreshToken, expiresIn } = result.issued
      const tokens = { access_token: accessToken, refresh_token: refreshToken }
      return success(
        { ...tokens, token_type: 'Bearer', expires_in: expiresIn },
        events,
        cookie === true ? accessCookie(accessToken, secure, expiresIn) : [],
      )
    }
    if ('refused' in result) {
      return failure(401, 'Invalid credentials', now(), {
        headers: ['WWW-Authenticate', challenge({ refused: 'no_credential' })],
        events,
      })
    }
    const headers = ['Retry-After', String(result.retryAfter)]
    return 'throttled' in result
      ? failure(429, 'Too many failed attempts: try again later', now(), { headers, events })
      : failure(503, 'Try again later', now(), { headers, events })
  }
}
