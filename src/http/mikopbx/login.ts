// POST /auth:login: form or JSON in; the access token in the body, the refresh token in a cookie.

import type { IssuedTokens } from '../../auth/login.ts'
import { parseFormBody, parseJsonBody } from '../body.ts'
import { readCookie } from '../cookie.ts'
import {
  createLoginHandler as createHandler,
  type LoginFields,
  type LoginParts,
  readAccount,
  refuseLogin,
} from '../login.ts'
import { failure, type Reply } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import type { Site } from '../site.ts'
import { REFRESH_COOKIE, refreshCookie, success } from './reply.ts'

const LANGUAGE = /^[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})?$/
/** Only a browser's: scripts with a cookie jar keep their sessions apart themselves. */
const readReplaced = ({ headers }: Request): string | undefined => {
  if (headers.get('sec-fetch-site') === undefined) return undefined
  const cookie = readCookie(headers.get('cookie'), REFRESH_COOKIE)
  return 'value' in cookie ? cookie.value : undefined
}

const TRUE = new Set<unknown>([true, 'true', '1', 'on'])

export const createLoginHandler = (parts: LoginParts & { site: Site }): Handler => {
  const { site } = parts
  const bad = (error: string): Reply => failure(400, error)

  const read = async (request: Request): Promise<LoginFields | Reply> => {
    // Login CSRF: another site's form would log its visitor in as somebody else (ASVS 3.5.1).
    if (site.isCrossSite(request.headers)) {
      return site.refuse(request.headers, 'login')
    }
    const body = await request.body()
    const fields = parseJsonBody(request.headers, body) ?? parseFormBody(request.headers, body)
    if (!fields) return bad('The body must be a form or a JSON object, each field once')
    const { login, password, rememberMe, language } = fields as Record<
      'login' | 'password' | 'rememberMe' | 'language',
      unknown
    >
    const account = readAccount(login, password, 'login')
    if ('problem' in account) return bad(account.problem)
    // Nobody has an empty name or password: this dialect's clients expect 401 for it, without a hash.
    if (account.username === '' || account.password === '') return refuseLogin([])
    return {
      ...account,
      language: typeof language === 'string' && LANGUAGE.test(language) ? language : 'en',
      persistent: TRUE.has(rememberMe),
      replaces: readReplaced(request),
    }
  }

  const welcome = (
    { session, accessToken, refreshToken, expiresIn }: IssuedTokens,
    _: unknown,
    { headers }: Request,
  ): Reply => {
    const lifetime = session.persistent ? session.expiresAt - session.createdAt : undefined
    return success(
      { accessToken, tokenType: 'Bearer', expiresIn, login: session.username },
      refreshCookie(refreshToken, site.isSecure(headers), lifetime),
    )
  }

  return createHandler(parts, { read, welcome })
}
