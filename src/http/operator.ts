// The operator's endpoints. /metrics, /healthz and /readyz stand on a listener of their own, so that no slip
// in a site's config can publish them; the control routes on a socket that only root and the service open.

import { parseJsonBody } from './body.ts'
import { type ErrorShape, failure, json, retryAfter } from './reply.ts'
import { type Route, routesBelow } from './routes.ts'

export const shape: ErrorShape = (error) => ({ error })

const TEXT = ['Content-Type', 'text/plain; charset=utf-8']

export const createOperatorRoutes = (parts: {
  metrics: { expose(): Promise<string>; contentType: string }
  /** Resolves to what keeps us from deciding, or undefined. */
  findObstacle(): Promise<string | undefined>
}): Route[] =>
  routesBelow('', shape, [
    [
      'metrics',
      'GET',
      '/metrics',
      async () => ({
        status: 200,
        headers: ['Content-Type', parts.metrics.contentType],
        body: await parts.metrics.expose(),
      }),
    ],
    ['healthz', 'GET', '/healthz', async () => ({ status: 200, headers: TEXT, body: 'ok\n' })],
    [
      'readyz',
      'GET',
      '/readyz',
      async () => {
        const obstacle = await parts.findObstacle()
        return obstacle === undefined
          ? { status: 200, headers: TEXT, body: 'ready\n' }
          : { status: 503, headers: [...TEXT, ...retryAfter(1)], body: `not ready: ${obstacle}\n` }
      },
    ],
  ])

export interface Which {
  id?: string
  user?: string
}

/** `?id=…`, `?user=…` or `?all=true`; none of them is a slip that must not end everything. */
const readWhich = (query: string): Which | undefined => {
  const fields = new URLSearchParams(query)
  const id = fields.get('id')
  const user = fields.get('user')
  if (id !== null) return { id }
  if (user !== null) return { user }
  return fields.get('all') === 'true' ? {} : undefined
}

export const createControlRoutes = (parts: {
  /** Config, keys and users anew: the settings that wait for a restart, or why nothing was changed. */
  reload(): Promise<{ ignored: readonly string[] } | { problems: readonly string[] }>
  /** Reads the user sources now; how many sessions ended by it, or why the new state was not taken. */
  reloadUsers(): Promise<{ ended: number } | { problems: readonly string[] }>
  userIds(): Promise<Readonly<Record<string, number>>>
  listSessions(username?: string): Promise<readonly unknown[]>
  /** Neither id nor user: every session. How many ended. */
  endSessions(which: Which): Promise<number>
  /** Ends live streams and leaves the sessions: how many. */
  kickSessions(which: Which): Promise<number>
  /** What a check would answer: the status, and the reason of a refusal. */
  inspect(
    token: string,
    action?: string,
    resource?: string,
  ): Promise<{ status: number; answer: string }>
  findObstacle(): Promise<string | undefined>
  now(): number
}): Route[] =>
  routesBelow('', shape, [
    [
      'reload',
      'POST',
      '/reload',
      async () => {
        const result = await parts.reload()
        return 'problems' in result
          ? failure(shape, 409, result.problems.join('\n'), parts.now())
          : json(200, { reloaded: true, ignored: result.ignored })
      },
    ],
    [
      'users_reload',
      'POST',
      '/users/reload',
      async () => {
        const result = await parts.reloadUsers()
        return 'ended' in result
          ? json(200, result)
          : failure(shape, 409, result.problems.join('\n'), parts.now())
      },
    ],
    ['users_ids', 'GET', '/users/ids', async () => json(200, { ids: await parts.userIds() })],
    [
      'sessions',
      'GET',
      '/sessions',
      async ({ query }) => {
        const user = new URLSearchParams(query).get('user') ?? undefined
        return json(200, { sessions: await parts.listSessions(user) })
      },
    ],
    [
      'sessions_end',
      'POST',
      '/sessions/end',
      async ({ query }) => {
        const which = readWhich(query)
        if (!which) return failure(shape, 400, 'say id, user or all=true', parts.now())
        return json(200, { ended: await parts.endSessions(which) })
      },
    ],
    [
      'sessions_kick',
      'POST',
      '/sessions/kick',
      async ({ query }) => {
        const which = readWhich(query)
        if (!which) return failure(shape, 400, 'say id, user or all=true', parts.now())
        return json(200, { kicked: await parts.kickSessions(which) })
      },
    ],
    [
      'tokens_inspect',
      'POST',
      '/tokens/inspect',
      async (request) => {
        const body = await request.body()
        if (!Buffer.isBuffer(body)) return body
        const fields = parseJsonBody(request.headers, body) as
          | Readonly<Record<'token' | 'action' | 'resource', unknown>>
          | undefined
        if (typeof fields?.token !== 'string') {
          return failure(shape, 400, 'a JSON object with a token is required', parts.now())
        }
        const { token, action, resource } = fields
        const asked = [action, resource].map((text) =>
          typeof text === 'string' ? text : undefined,
        )
        return json(200, await parts.inspect(token, ...asked))
      },
    ],
    [
      'ready',
      'GET',
      '/ready',
      async () => json(200, { obstacle: (await parts.findObstacle()) ?? null }),
    ],
  ])
