// POST /auth/login: JSON in, tokens out.

import type { IssuedTokens } from '../../auth/login.ts'
import { parseJsonBody } from '../body.ts'
import {
  createLoginHandler as createHandler,
  type LoginFields,
  type LoginParts,
  readAccount,
} from '../login.ts'
import { failure, type Reply } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import type { Site } from '../site.ts'
import { accessCookie, success } from './reply.ts'

const NEEDS_HTTPS =
  'A cookie needs https: open this site by https://, or log in without "cookie". Where something in front of nginx ends the TLS, the operator adds the https:// address to site.origins'

interface Asked extends LoginFields {
  cookie: boolean
  secure: boolean
}

export const createLoginHandler = (parts: LoginParts & { site: Site }): Handler => {
  const { site } = parts
  const bad = (error: string) => failure(400, error)

  const read = async (request: Request): Promise<Asked | Reply> => {
    const body = await request.body()
    const fields = parseJsonBody(request.headers, body)
    if (!fields) return bad('The body must be a JSON object, sent as application/json')
    const { username, password, cookie } = fields as Record<
      'username' | 'password' | 'cookie',
      unknown
    >
    if (username === '' || password === '') return bad('Username and password are required')
    const account = readAccount(username, password, 'Username')
    if ('problem' in account) return bad(account.problem)
    const secure = site.isSecure(request.headers)
    if (cookie === true) {
      // Login CSRF: another site's page would log its visitor in as somebody else.
      if (site.isCrossSite(request.headers)) {
        return site.refuse(request.headers, 'login')
      }
      if (!secure && !site.isLoopback(request.headers)) {
        return bad(NEEDS_HTTPS)
      }
    }
    return { ...account, language: 'en', persistent: false, cookie: cookie === true, secure }
  }

  const welcome = (
    { accessToken, refreshToken, expiresIn }: IssuedTokens,
    { cookie, secure }: Asked,
  ): Reply =>
    success(
      {
        access_token: accessToken,
        refresh_token: refreshToken,
        token_type: 'Bearer',
        expires_in: expiresIn,
      },
      cookie ? accessCookie(accessToken, secure, expiresIn) : [],
    )

  return createHandler(parts, { read, welcome })
}
