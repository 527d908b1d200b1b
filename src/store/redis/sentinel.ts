// Which server the sentinels name as the primary. The package's own client for sentinels is not used: after a
// fail-over it threw, and its retries, which nothing ended, took the whole thread (6.3.1, seen for 20 s).

import { systemClock } from '../../clock.ts'
import type { RedisNode } from './address.ts'

const OTHERS_WITHIN = 0.15 // seconds after the first answer

interface Named extends RedisNode {
  readonly epoch: number
}

/** The reply to SENTINEL MASTER: names and values in a list, or by RESP3 in a map. */
const readNamed = (reply: unknown): Named => {
  const list: readonly unknown[] = Array.isArray(reply)
    ? reply
    : Object.entries(Object(reply) as object).flat()
  const of = (name: string): string => {
    const at = list.indexOf(name)
    return at === -1 ? '' : String(list[at + 1])
  }
  const [host, port, epoch] = [of('ip'), Number(of('port')), Number(of('config-epoch'))]
  if (host === '' || !Number.isInteger(port) || !Number.isInteger(epoch)) {
    throw new Error('what a sentinel says of the primary is not understood')
  }
  return { host, port, epoch }
}

/**
 * Asks all of them at once, and believes the one that has seen the most fail-overs: one that was cut off for a while
 * names the primary of before. Rejects where none of them answers, as the first of them did.
 */
export const findPrimary = async (
  nodes: readonly RedisNode[],
  ask: (node: RedisNode) => Promise<unknown>,
): Promise<RedisNode> => {
  const said: Named[] = []
  const asked = nodes.map(async (node) => said.push(readNamed(await ask(node))))
  await Promise.any(asked).catch((error: AggregateError) => {
    throw error.errors[0]
  })
  await Promise.race([Promise.allSettled(asked), systemClock.wait(OTHERS_WITHIN)])
  const { host, port } = said.reduce((one, other) => (other.epoch > one.epoch ? other : one))
  return { host, port }
}
