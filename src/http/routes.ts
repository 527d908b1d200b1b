// The whole surface of one listener as a table, matched on the exact path: no prefix, no decoding, no
// trailing slash, so there is one spelling of every endpoint and no way around it.

import { type ErrorShape, failure, type Reply } from './reply.ts'
import type { Handler, Request } from './request.ts'

export interface Route {
  /** Also the metric label: the verb and not the path, which is the operator's to choose. */
  name: string
  method: 'GET' | 'POST' | 'DELETE'
  /** Exact; or ending in `/:id`, which stands for one segment of an id's alphabet. */
  path: string
  /** What can be answered without waiting for anything; undefined: the handler answers. */
  atOnce?(request: Request): Reply | undefined
  handler: Handler
  /** How the clients of this route are told of an error. */
  shape: ErrorShape
}

export interface Match extends Pick<Route, 'name' | 'atOnce' | 'handler' | 'shape'> {
  /** What stood for `:id`, else empty. */
  id: string
}

const ANY_ID = '/:id'
const ID = /^[A-Za-z0-9_-]{1,64}$/

interface Place {
  shape: ErrorShape
  methods: Map<string, Match>
}

export type Router = (method: string, path: string) => Match

/** `fallback` shapes the answer to a path that is nobody's. */
export const createRouter = (
  routes: readonly Route[],
  fallback: ErrorShape,
  now: () => number,
): Router => {
  const byPath = new Map<string, Place>()
  for (const route of routes) {
    const place = byPath.get(route.path) ?? { shape: route.shape, methods: new Map() }
    place.methods.set(route.method, { ...route, id: '' })
    byPath.set(route.path, place)
  }
  const notFound: Match = {
    name: 'unknown',
    shape: fallback,
    id: '',
    handler: async () => failure(fallback, 404, 'Not found', now()),
  }
  const wrongMethod = ({ shape, methods }: Place): Match => {
    const allow = ['Allow', [...methods.keys()].join(', ')]
    return {
      name: 'wrong_method',
      shape,
      id: '',
      handler: async () => failure(shape, 405, 'Method not allowed', now(), allow),
    }
  }
  return (method, path) => {
    const exact = path.endsWith(ANY_ID) ? undefined : byPath.get(path)
    if (exact) return exact.methods.get(method) ?? wrongMethod(exact)
    const slash = path.lastIndexOf('/')
    const id = path.slice(slash + 1)
    const below = ID.test(id) ? byPath.get(`${path.slice(0, slash)}${ANY_ID}`) : undefined
    if (!below) return notFound
    const match = below.methods.get(method)
    return match ? { ...match, id } : wrongMethod(below)
  }
}
