// What a client can do at a host, each act one request and one line in the journal. It holds the real tokens;
// the journal gets their names only.

import { bearer, CHECK, checkHeaders, PASSWORD } from '../fixtures/postern.ts'
import { V1, V3 } from '../nginx/ask.ts'
import type { Called, NotCalled } from './caller.ts'
import type { Host } from './hosts.ts'
import { type Answer, type Given, type Journal, nameToken } from './journal.ts'

export type Dialect = 'softphone' | 'mikopbx'

export interface Tokens {
  readonly sid: string
  readonly refresh: string
  readonly access: string
}

/** Of a session, what names it. */
export interface Holder {
  readonly sid: string
  readonly user: string
  readonly dialect: Dialect
}

export interface Done {
  readonly answer: Answer | 'unsent'
  readonly tokens?: Tokens
}

export interface Actions {
  login(host: Host, user: string, dialect: Dialect, right?: boolean): Promise<Done>
  refresh(host: Host, of: Holder, token: string): Promise<Done>
  /** By an access or a refresh token. */
  logout(
    host: Host,
    of: Holder,
    token: { access: string } | { refresh: string },
    everywhere?: boolean,
  ): Promise<Done>
  check(host: Host, of: Holder, access: string): Promise<Done>
}

const JSON_BODY = { 'Content-Type': 'application/json' }
const ANSWERS: Readonly<Record<number, Answer>> = { 200: 'yes', 204: 'yes', 401: 'no', 503: 'away' }

const cookieOf = (token: string): Record<string, string> => ({ Cookie: `refreshToken=${token}` })

/** A token's session stands in its payload, for everybody to read. */
const sidOf = (access: string): string => {
  const payload = Buffer.from(access.split('.')[1] ?? '', 'base64url').toString('utf8')
  return (JSON.parse(payload) as { sid: string }).sid
}

const readTokens = ({ body, headers }: Called, dialect: Dialect): Tokens => {
  if (dialect === 'softphone') {
    const said = JSON.parse(body) as { access_token: string; refresh_token: string }
    const { access_token: access, refresh_token: refresh } = said
    return { sid: sidOf(access), access, refresh }
  }
  const { data } = JSON.parse(body) as { data: { accessToken: string } }
  const cookie = /^refreshToken=([^;]+)/.exec(headers['set-cookie']?.[0] ?? '')?.[1] ?? ''
  return { sid: sidOf(data.accessToken), access: data.accessToken, refresh: cookie }
}

const toGiven = ({ sid, refresh, access }: Tokens): Given => ({
  sid,
  refresh: nameToken(refresh),
  access: nameToken(access),
})

export const createActions = (journal: Journal): Actions => {
  const read = (called: Called | NotCalled) => {
    const status = typeof called === 'object' ? called.status : 0
    const answer = typeof called === 'object' ? (ANSWERS[status] ?? 'odd') : called
    return { answer, status, reply: typeof called === 'object' ? called : undefined }
  }

  return {
    async login(host, user, dialect, right = true) {
      const password = right ? PASSWORD : 'wrong'
      const start = journal.now()
      const [path, fields] =
        dialect === 'softphone'
          ? [`${V1}/auth/login`, { username: user, password }]
          : [`${V3}/auth:login`, { login: user, password, rememberMe: true }]
      const call = { method: 'POST', headers: JSON_BODY, body: JSON.stringify(fields) }
      const { answer, status, reply } = read(await host.caller.call(path, call))
      if (answer === 'unsent') return { answer }
      const tokens = answer === 'yes' && reply ? readTokens(reply, dialect) : undefined
      journal.write({
        verb: 'login',
        host: host.name,
        start,
        answer,
        status,
        user,
        right,
        ...(tokens && { given: toGiven(tokens) }),
      })
      return { answer, ...(tokens && { tokens }) }
    },
    async refresh(host, { sid, dialect }, token) {
      const start = journal.now()
      const [path, headers] =
        dialect === 'softphone'
          ? [`${V1}/auth/refresh`, bearer(token)]
          : [`${V3}/auth:refresh`, cookieOf(token)]
      const { answer, status, reply } = read(
        await host.caller.call(path, { method: 'POST', headers }),
      )
      if (answer === 'unsent') return { answer }
      const tokens = answer === 'yes' && reply ? readTokens(reply, dialect) : undefined
      journal.write({
        verb: 'refresh',
        host: host.name,
        start,
        answer,
        status,
        sid,
        token: nameToken(token),
        ...(tokens && { given: toGiven(tokens) }),
      })
      return { answer, ...(tokens && { tokens }) }
    },
    async logout(host, { sid, user, dialect }, token, everywhere = false) {
      const start = journal.now()
      const base = dialect === 'softphone' ? `${V1}/auth/logout` : `${V3}/auth:logout`
      const by = 'access' in token ? token.access : token.refresh
      const headers = 'refresh' in token && dialect === 'mikopbx' ? cookieOf(by) : bearer(by)
      const path = everywhere ? `${base}?all=true` : base
      const { answer, status } = read(await host.caller.call(path, { method: 'POST', headers }))
      if (answer === 'unsent') return { answer }
      journal.write({
        verb: 'logout',
        host: host.name,
        start,
        answer,
        status,
        sid,
        user,
        everywhere,
      })
      return { answer }
    },
    async check(host, { sid }, access) {
      const start = journal.now()
      const { answer, status, reply } = read(
        await host.caller.call(CHECK, { headers: checkHeaders(access) }),
      )
      if (answer === 'unsent') return { answer }
      const said = (name: string): string => String(reply?.headers[name] ?? '')
      journal.write({
        verb: 'check',
        host: host.name,
        start,
        answer,
        status,
        sid,
        token: nameToken(access),
        ...(answer === 'no' && { reason: said('x-auth-reason') }),
        ...(answer === 'yes' && {
          allowed: { sid: said('x-auth-session'), user: said('x-auth-user') },
        }),
      })
      return { answer }
    },
  }
}
