// Failed logins counted across hosts. Judging and counting are one step, so that fifty hosts at once cannot
// race past a limit. It must never let a try go on that is not counted, and keeps names as hashes only.

import { createHash, randomBytes } from 'node:crypto'

import type { Time } from '../../clock.ts'
import type { Argument, Link } from './link.ts'
import { SETTLE, TRY } from './scripts.ts'
import type { SharedThrottle } from '../shared-store.ts'

// Seconds until a try that nobody settled is a failure. Longer than a password ever takes; and a host that died
// in the middle may have judged it, so it is not forgotten.
const PATIENCE = 30
const SEND_AGAIN = 1 // second
const MAX_OWED = 4096 // as many as the link has under way when it breaks

const field = (key: string): string => createHash('sha256').update(key).digest('base64url')

interface Owed {
  readonly args: readonly Argument[]
  /** By then its window is over, and nothing is left to settle. */
  readonly until: number
}

/** All windows share one shard: logins are bound by their password hashes, at some hundreds a second. */
export const createRedisThrottle = (
  link: Pick<Link, 'run'>,
  root: string,
  clock: Time,
): SharedThrottle => {
  const host = randomBytes(9).toString('base64url')
  let tries = 0

  const send = async (args: readonly Argument[]): Promise<boolean> =>
    link.run(SETTLE, root, args).then(
      () => true,
      () => false,
    )

  // What broke in the middle may be counted and never judged: a pause of the server would ban an office whose
  // passwords were right. Only one is sent at a time, so a server that is away costs one call a second.
  const owed: Owed[] = []
  let paying = false
  let cancel: (() => void) | undefined
  const pay = async (): Promise<void> => {
    if (paying) return
    paying = true
    while (owed[0] && (clock.monotonic() >= owed[0].until || (await send(owed[0].args)))) {
      owed.shift()
    }
    paying = false
    if (owed[0]) cancel ??= clock.every(SEND_AGAIN, () => void pay())
    else {
      cancel?.()
      cancel = undefined
    }
  }

  const settle = async (args: readonly Argument[], window: number): Promise<void> => {
    if (await send(args)) return
    if (owed.length >= MAX_OWED) return
    owed.push({ args, until: clock.monotonic() + window })
    if (!cancel) void pay()
  }

  return {
    async begin(limits, window) {
      const id = `${host}${(tries++).toString(36)}`
      const counts = limits.map((limit) => ({ ...limit, field: field(limit.key) }))
      const settled = async (outcome: 'succeeded' | 'failed' | 'not_judged'): Promise<void> => {
        const each = counts.flatMap((count) => [
          count.field,
          outcome === 'succeeded' && count.forgiving === true ? 1 : 0,
        ])
        await settle([id, outcome === 'failed' ? 1 : 0, PATIENCE * 1000, ...each], window)
      }
      const each = counts.flatMap((count) => [count.field, count.failures, count.spacing * 1000])
      let reply
      try {
        reply = await link.run(TRY, root, [id, window * 1000, PATIENCE * 1000, ...each])
      } catch (error) {
        void settled('not_judged') // it may have been counted, and will never be tried
        throw error
      }
      const [at, left, first] = reply as [number, number, number]
      const limit = limits[at - 1]
      if (!limit) return { settle: settled }
      if (left === 0) return { wait: limit }
      return { refused: limit, retryAfter: Math.ceil(left / 1000), first: first === 1 }
    },
  }
}
