// Which server the sentinels name as the primary. The package's own client for sentinels is not used: after a
// fail-over it threw, and its retries, which nothing ended, took the whole thread (6.3.1, seen for 20 s).

import { systemClock } from '../../clock.ts'
import type { RedisNode } from './address.ts'

const OTHERS_WITHIN = 0.15 // seconds after the first answer

interface Named extends RedisNode {
  readonly epoch: number
}

/** The reply to SENTINEL MASTER: a map, of texts. */
const readNamed = (reply: unknown): Named => {
  const { ip, port, 'config-epoch': epoch } = Object(reply) as Record<string, string | undefined>
  const named = { host: ip ?? '', port: Number(port), epoch: Number(epoch) }
  if (named.host === '' || !Number.isInteger(named.port) || !Number.isInteger(named.epoch)) {
    throw new Error('unexpected reply from a sentinel')
  }
  return named
}

/**
 * Asks all of them at once, and believes the one that has seen the most fail-overs: one that was cut off for a while
 * names the former primary. Rejects where none of them answers, as the first of them did.
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
