// The operator's endpoints. /metrics, /healthz and /readyz have a listener of their own, so that no mistake in
// a site's config can publish them; the control routes are on a socket that only root and the service can open.

import { parseJsonBody } from './body.ts'
import { type ErrorShape, failure, json, type Reply, retryAfter } from './reply.ts'
import type { Handler } from './request.ts'
import { type Route, routesBelow } from './routes.ts'

export const shape: ErrorShape = (error) => ({ error })

const TEXT = ['Content-Type', 'text/plain; charset=utf-8']

export const createOperatorRoutes = (parts: {
  metrics: { expose(): Promise<string>; contentType: string }
  /** Resolves to what keeps us from deciding, or undefined. */
  findObstacle(): Promise<string | undefined>
}): Route[] => {
  const metrics: Handler = async () => ({
    status: 200,
    headers: ['Content-Type', parts.metrics.contentType],
    body: await parts.metrics.expose(),
  })
  const ready: Handler = async () => {
    const obstacle = await parts.findObstacle()
    return obstacle === undefined
      ? { status: 200, headers: TEXT, body: 'ready\n' }
      : { status: 503, headers: [...TEXT, ...retryAfter(1)], body: `not ready: ${obstacle}\n` }
  }
  return routesBelow('', shape, [
    ['metrics', 'GET', '/metrics', metrics],
    ['healthz', 'GET', '/healthz', async () => ({ status: 200, headers: TEXT, body: 'ok\n' })],
    ['readyz', 'GET', '/readyz', ready],
  ])
}

/** Whose sessions or streams the operator means; neither id nor user: everybody's. */
export interface SessionSelector {
  id?: string
  user?: string
}

/** `?id=…`, `?user=…` or `?all=true`: to leave them all out must not end everything. */
const readSelector = (query: string): SessionSelector | undefined => {
  const fields = new URLSearchParams(query)
  const id = fields.get('id')
  const user = fields.get('user')
  if (id !== null) return { id }
  if (user !== null) return { user }
  return fields.get('all') === 'true' ? {} : undefined
}

export const createControlRoutes = (parts: {
  /** Applies config, keys and users anew: which settings wait for a restart, or why nothing was changed. */
  /** `isMeant`: also a change of users that is held back. */
  reload(
    isMeant: boolean,
  ): Promise<{ ignored: readonly string[] } | { problems: readonly string[] }>
  /** Reads the user sources now: how many sessions that ended, or why the change was not applied. */
  reloadUsers(): Promise<{ ended: number } | { problems: readonly string[] }>
  userIds(): Promise<Readonly<Record<string, number>>>
  listSessions(username?: string): Promise<readonly unknown[]>
  /** How many ended. */
  endSessions(selector: SessionSelector): Promise<number>
  /** Ends live streams and leaves the sessions: how many. */
  kickSessions(selector: SessionSelector): Promise<number>
  /** What a check would answer: the status, and the reason of a refusal. */
  inspect(
    token: string,
    action?: string,
    resource?: string,
  ): Promise<{ status: number; answer: string }>
  /** Fields as `postern machine-key` has read them: whoever opens this socket could as well write the store. */
  machineKeys: Readonly<
    Record<'list' | 'add' | 'rotate' | 'remove', (asked: never) => Promise<object>>
  >
  findObstacle(): Promise<string | undefined>
  /** What is known of nginx's workers, for doctor. */
  nginx(): object
  /** What is known of the CDR, for doctor; undefined: nothing asks it. */
  cdr(): object | undefined
}): Route[] => {
  const notApplied = (problems: readonly string[]): Reply => failure(409, problems.join('\n'))

  const reload: Handler = async ({ query }) => {
    const result = await parts.reload(new URLSearchParams(query).get('users') !== 'held')
    if ('problems' in result) return notApplied(result.problems)
    return json(200, { reloaded: true, ignored: result.ignored })
  }
  const reloadUsers: Handler = async () => {
    const result = await parts.reloadUsers()
    return 'problems' in result ? notApplied(result.problems) : json(200, result)
  }
  const listSessions: Handler = async ({ query }) => {
    const user = new URLSearchParams(query).get('user') ?? undefined
    return json(200, { sessions: await parts.listSessions(user) })
  }
  const forSelected =
    (done: 'ended' | 'kicked', act: (selector: SessionSelector) => Promise<number>): Handler =>
    async ({ query }) => {
      const selector = readSelector(query)
      return selector
        ? json(200, { [done]: await act(selector) })
        : failure(400, 'say id, user or all=true')
    }
  const inspect: Handler = async (request) => {
    const body = await request.body()
    const { token, ...asked } = (parseJsonBody(request.headers, body) ?? {}) as Readonly<
      Record<'token' | 'action' | 'resource', unknown>
    >
    if (typeof token !== 'string') return failure(400, 'a JSON object with a token is required')
    const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
    return json(200, await parts.inspect(token, text(asked.action), text(asked.resource)))
  }
  const forMachineKeys =
    (answer: (asked: never) => Promise<object>): Handler =>
    async (request) => {
      const body = await request.body()
      const fields = parseJsonBody(request.headers, body) ?? {}
      return json(200, { ...(await answer(fields as never)) })
    }
  const { list, add, rotate, remove } = parts.machineKeys
  const ready: Handler = async () =>
    json(200, {
      obstacle: (await parts.findObstacle()) ?? null,
      nginx: parts.nginx(),
      cdr: parts.cdr(),
    })

  return routesBelow('', shape, [
    ['reload', 'POST', '/reload', reload],
    ['users_reload', 'POST', '/users/reload', reloadUsers],
    ['users_ids', 'GET', '/users/ids', async () => json(200, { ids: await parts.userIds() })],
    ['sessions', 'GET', '/sessions', listSessions],
    ['sessions_end', 'POST', '/sessions/end', forSelected('ended', parts.endSessions)],
    ['sessions_kick', 'POST', '/sessions/kick', forSelected('kicked', parts.kickSessions)],
    ['tokens_inspect', 'POST', '/tokens/inspect', inspect],
    ['machine_keys', 'GET', '/machine-keys', forMachineKeys(list)],
    ['machine_key_add', 'POST', '/machine-keys/add', forMachineKeys(add)],
    ['machine_key_rotate', 'POST', '/machine-keys/rotate', forMachineKeys(rotate)],
    ['machine_key_remove', 'POST', '/machine-keys/remove', forMachineKeys(remove)],
    ['ready', 'GET', '/ready', ready],
  ])
}
