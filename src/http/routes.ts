// The whole surface of one listener as a table, matched on the exact path: no prefix, no decoding, no
// trailing slash, so there is one spelling of every endpoint and no way around it.

import { type ErrorShape, failure } from './reply.ts'
import type { Handler } from './request.ts'

export interface Route {
  /** Also the metric label: the verb and not the path, which is the operator's to choose. */
  name: string
  method: 'GET' | 'POST'
  path: string
  handler: Handler
  /** How the clients of this route are told of an error. */
  shape: ErrorShape
}

export type Match = Pick<Route, 'name' | 'handler' | 'shape'>

export type Router = (method: string, path: string) => Match

/** `fallback` shapes the answer to a path that is nobody's. */
export const createRouter = (
  routes: readonly Route[],
  fallback: ErrorShape,
  now: () => number,
): Router => {
  const byPath = new Map<string, Map<string, Match>>()
  for (const { path, method, name, handler, shape } of routes) {
    const methods = byPath.get(path) ?? new Map<string, Match>()
    methods.set(method, { name, handler, shape })
    byPath.set(path, methods)
  }
  const notFound: Match = {
    name: 'unknown',
    shape: fallback,
    handler: () => failure(fallback, 404, 'Not found', now()),
  }
  const wrongMethod = (methods: ReadonlyMap<string, Match>): Match => {
    const shape = methods.values().next().value?.shape ?? fallback
    const allow = ['Allow', [...methods.keys()].join(', ')]
    return {
      name: 'wrong_method',
      shape,
      handler: () => failure(shape, 405, 'Method not allowed', now(), allow),
    }
  }
  return (method, path) => {
    const methods = byPath.get(path)
    if (!methods) return notFound
    return methods.get(method) ?? wrongMethod(methods)
  }
}
