// All that one listener serves, as a table matched on the exact path: no decoding, no trailing slash, and no prefix but
// the check's, so every endpoint has one spelling and nothing gets around it.

import { isId } from '../auth/claims.ts'
import { type ErrorShape, failure, type Reply } from './reply.ts'
import type { Handler, Request } from './request.ts'

export interface Route {
  /** Also the metric label: not the path, which the operator may change. */
  name: string
  method: 'GET' | 'POST' | 'DELETE'
  /** Exact, or ending in `/:id`, which stands for an id, or in `/*`, which stands for whatever follows, as it came. */
  path: string
  /** The answer, where nothing has to be waited for; undefined: `handler` answers. */
  atOnce?(request: Request): Reply | undefined
  handler: Handler
  /** How this route's clients are told of an error. */
  shape: ErrorShape
}

export interface Match extends Pick<Route, 'name' | 'atOnce' | 'handler'> {
  /** Of the route; undefined where there is none: as the listener tells errors. */
  shape?: ErrorShape | undefined
  /** Where in the path what stands for `:id` or `*` begins. */
  idAt: number
}

const ANY_ID = '/:id'
const ALL_BELOW = '/*'
// nginx resolves it before it asks about a resource, and passes it on to the token endpoints as the client wrote it:
// /check/../pbxcore/… is theirs to nginx, and must not be a check here.
const CLIMBS = /(?:\/|%2f)(?:\.|%2e){1,2}(?:\/|%2f|$)/i

/** Routes as a table, all told of errors in one shape. */
export const routesBelow = (
  basePath: string,
  shape: ErrorShape,
  table: readonly (readonly [Route['name'], Route['method'], Route['path'], Handler])[],
): Route[] =>
  table.map(([name, method, path, handler]) => ({
    name,
    method,
    path: `${basePath}${path}`,
    handler,
    shape,
  }))

export type Router = (method: string, path: string) => Match

export const createRouter = (routes: readonly Route[]): Router => {
  const byPath = new Map<string, Map<string, Match>>()
  for (const route of routes) {
    const methods = byPath.get(route.path) ?? new Map<string, Match>()
    const idAt = route.path.replace(/(?<=\/)(?::id|\*)$/, '').length
    methods.set(route.method, { ...route, idAt })
    // Monitors and health checks ask so; node:http leaves the body out.
    if (route.method === 'GET') methods.set('HEAD', { ...route, idAt })
    byPath.set(route.path, methods)
  }
  // Nearly all that is asked is a check: it is found without a look at the table.
  const below = [...byPath].flatMap(([path, methods]) =>
    path.endsWith(ALL_BELOW) ? [{ prefix: path.slice(0, -1), methods }] : [],
  )
  const notFound: Match = {
    name: 'unknown',
    idAt: Infinity,
    handler: async () => failure(404, 'Not found: look at the address'),
  }
  const wrongMethod = (methods: ReadonlyMap<string, Match>): Match => {
    const [one] = methods.values()
    const allowed = [...methods.keys()].join(', ')
    return {
      name: 'wrong_method',
      shape: one?.shape,
      idAt: Infinity,
      handler: async () =>
        failure(405, `Method not allowed: use ${allowed}`, { headers: ['Allow', allowed] }),
    }
  }
  const pick = (methods: ReadonlyMap<string, Match>, method: string): Match =>
    methods.get(method) ?? wrongMethod(methods)
  return (method, path) => {
    for (const { prefix, methods } of below) {
      if (path.startsWith(prefix) && !CLIMBS.test(path)) return pick(methods, method)
    }
    const exact = path.endsWith(ANY_ID) ? undefined : byPath.get(path)
    if (exact) return pick(exact, method)
    const slash = path.lastIndexOf('/')
    const withId = isId(path.slice(slash + 1))
      ? byPath.get(`${path.slice(0, slash)}${ANY_ID}`)
      : undefined
    return withId ? pick(withId, method) : notFound
  }
}
