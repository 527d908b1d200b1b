// The softphone dialect's two shapes of an answer.

import { type ErrorShape, failure as fail, json, type Reply, type SecurityEvent } from '../reply.ts'

export const shape: ErrorShape = (error, now) => ({ success: false, error, timestamp: now })

export const success = (
  body: Readonly<Record<string, unknown>>,
  events: readonly SecurityEvent[] = [],
): Reply => ({ ...json(200, { success: true, ...body }), events })

export const failure = (
  status: 400 | 401 | 403 | 429 | 503,
  error: string,
  now: number,
  more: {
    headers?: readonly string[]
    events?: readonly SecurityEvent[]
    reason?: Reply['reason']
  } = {},
): Reply => ({
  ...fail(shape, status, error, now, more.headers),
  events: more.events ?? [],
  reason: more.reason,
})
