// POST /auth:login: form or JSON in; the access token in the body, the refresh token in a cookie.

import type { Login, LoginResult } from '../../auth/login.ts'
import { parseFormBody, parseJsonBody } from '../body.ts'
import { type CookieSecurity, isSecure } from '../cookie.ts'
import { isCrossSite } from '../cross-site.ts'
import { loginEvents } from '../login-events.ts'
import { challenge, type Reply } from '../reply.ts'
import { type Handler, readAgent, type Request } from '../request.ts'
import { failure, refreshCookie, success } from './reply.ts'

const MAX_NAME = 256 // bytes
const MAX_PASSWORD = 1024 // bytes
const LANGUAGE = /^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})?$/
const TRUE = new Set<unknown>([true, 'true', '1', 'on'])

const fits = (text: string, max: number): boolean => Buffer.byteLength(text) <= max

export const createLoginHandler = (parts: {
  login: Login
  cookieSecurity: CookieSecurity
  now(): number
  observe(result: LoginResult): void
}): Handler => {
  const { login, cookieSecurity, now, observe } = parts
  const bad = (error: string): Reply => failure(400, error, now())
  const invalid = (events: Reply['events'] = []): Reply =>
    failure(
      401,
      'Invalid credentials',
      now(),
      ['WWW-Authenticate', challenge({ refused: 'no_credential' })],
      events,
    )

  const answer = (request: Request, username: string, result: LoginResult): Reply => {
    const events = loginEvents(username, result)
    if ('issued' in result) {
      const { session, accessToken, refreshToken, expiresIn } = result.issued
      const lifetime = session.persistent ? session.expiresAt - session.createdAt : undefined
      const cookie = refreshCookie(
        refreshToken,
        isSecure(request.headers, cookieSecurity),
        lifetime,
      )
      return success(
        { accessToken, tokenType: 'Bearer', expiresIn, login: session.username },
        cookie,
        events,
      )
    }
    if ('refused' in result) return invalid(events)
    const retry = ['Retry-After', String(result.retryAfter)]
    return 'throttled' in result
      ? failure(429, 'Too many failed attempts: try again later', now(), retry, events)
      : failure(503, 'Try again later', now(), retry, events)
  }

  return async (request) => {
    // Login CSRF: another site's form would log its visitor in as somebody else (ASVS 3.5.1).
    if (isCrossSite(request.headers)) return failure(403, 'Cross-site login is refused', now())
    const body = await request.body()
    if (!Buffer.isBuffer(body)) return body
    const fields = parseJsonBody(request.headers, body) ?? parseFormBody(request.headers, body)
    if (!fields) return bad('The body must be a form or a JSON object, each field once')
    const {
      login: username,
      password,
      rememberMe,
      language,
    } = fields as Record<'login' | 'password' | 'rememberMe' | 'language', unknown>
    if (typeof username !== 'string' || typeof password !== 'string') {
      return bad('login and password are required')
    }
    if (!username.isWellFormed() || !password.isWellFormed()) return bad('Not valid Unicode text')
    if (!fits(username, MAX_NAME) || !fits(password, MAX_PASSWORD)) {
      return bad('login or password is too long')
    }
    // Nobody has an empty name or password: this dialect's clients expect 401 there, and no hash is run.
    if (username === '' || password === '') return invalid()
    const result = await login({
      username,
      password,
      address: request.address,
      agent: readAgent(request.headers),
      language: typeof language === 'string' && LANGUAGE.test(language) ? language : 'en',
      persistent: TRUE.has(rememberMe),
    })
    observe(result)
    return answer(request, username, result)
  }
}
