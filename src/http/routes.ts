// All that one listener serves, as a table matched on the exact path: no prefix, no decoding, no trailing slash, so
// every endpoint has one spelling and nothing gets around it.

import { isId } from '../auth/claims.ts'
import { type ErrorShape, failure, type Reply } from './reply.ts'
import type { Handler, Request } from './request.ts'

export interface Route {
  /** Also the metric label: not the path, which the operator may change. */
  name: string
  method: 'GET' | 'POST' | 'DELETE'
  /** Exact, or ending in `/:id`, which stands for an id. */
  path: string
  /** The answer, where nothing has to be waited for; undefined: `handler` answers. */
  atOnce?(request: Request): Reply | undefined
  handler: Handler
  /** How this route's clients are told of an error. */
  shape: ErrorShape
}

export interface Match extends Pick<Route, 'name' | 'atOnce' | 'handler' | 'shape'> {
  /** What stood for `:id`, else empty. */
  id: string
}

const ANY_ID = '/:id'

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

interface Methods {
  shape: ErrorShape
  methods: Map<string, Match>
}

export type Router = (method: string, path: string) => Match

/** `fallback` is the shape of the answer on an unknown path. */
export const createRouter = (
  routes: readonly Route[],
  fallback: ErrorShape,
  now: () => number,
): Router => {
  const byPath = new Map<string, Methods>()
  for (const route of routes) {
    const known = byPath.get(route.path) ?? { shape: route.shape, methods: new Map() }
    known.methods.set(route.method, { ...route, id: '' })
    // Monitors and health checks ask so; node:http leaves the body out.
    if (route.method === 'GET') known.methods.set('HEAD', { ...route, id: '' })
    byPath.set(route.path, known)
  }
  const notFound: Match = {
    name: 'unknown',
    shape: fallback,
    id: '',
    handler: async () => failure(fallback, 404, 'Not found', now()),
  }
  const wrongMethod = ({ shape, methods }: Methods): Match => {
    const headers = ['Allow', [...methods.keys()].join(', ')]
    return {
      name: 'wrong_method',
      shape,
      id: '',
      handler: async () => failure(shape, 405, 'Method not allowed', now(), { headers }),
    }
  }
  return (method, path) => {
    const exact = path.endsWith(ANY_ID) ? undefined : byPath.get(path)
    if (exact) return exact.methods.get(method) ?? wrongMethod(exact)
    const slash = path.lastIndexOf('/')
    const id = path.slice(slash + 1)
    const below = isId(id) ? byPath.get(`${path.slice(0, slash)}${ANY_ID}`) : undefined
    if (!below) return notFound
    const match = below.methods.get(method)
    return match ? { ...match, id } : wrongMethod(below)
  }
}
