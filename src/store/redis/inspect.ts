// Which settings of the server could bring a dead token back: for `check-config` and `doctor`, who print them.
// It must never change one.

import { evictingPolicy } from './feed.ts'
import { type Link, type LinkSettings, openLink } from './link.ts'
import { StoreError } from '../store.ts'

const field = (info: string, name: string): string =>
  new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? ''

/** Each line names its cure; none: nothing to say. */
export const inspectRedis = async ({
  info,
  setting,
}: Pick<Link, 'info' | 'setting'>): Promise<string[]> => {
  const sections = ['server', 'memory', 'persistence', 'replication']
  const all = (await Promise.all(sections.map(info))).join('\n')
  const warnings: string[] = []
  const major = Number(/^\d+/.exec(field(all, 'redis_version'))?.[0] ?? 0)
  if (major < 7) warnings.push('the Redis store needs Redis 7 or Valkey: install a newer one')
  const policy = field(all, 'maxmemory_policy')
  if (evictingPolicy(all) !== '') {
    warnings.push(
      `Redis evicts (${policy}), which un-revokes tokens: set maxmemory-policy noeviction`,
    )
  } else if (policy !== 'noeviction') {
    warnings.push(
      `Redis will evict (${policy}) once it has a maxmemory: set maxmemory-policy noeviction`,
    )
  }
  if (field(all, 'aof_enabled') !== '1') {
    warnings.push(
      'Redis forgets its last seconds when it dies, logouts among them: set appendonly yes and appendfsync always',
    )
  } else if (((await setting('appendfsync')) ?? 'always') !== 'always') {
    warnings.push(
      'Redis forgets up to a second of logouts when its machine dies: set appendfsync always',
    )
  }
  if (field(all, 'role') !== 'master') {
    warnings.push('this Redis is a replica: point the url at the primary')
  } else if (
    field(all, 'connected_slaves') !== '0' &&
    field(all, 'min_slaves_good_slaves') === ''
  ) {
    warnings.push(
      'a replica that takes over may lack the last logouts: set min-replicas-to-write 1 and a short min-replicas-max-lag',
    )
  }
  return warnings
}

const toWarning = (error: unknown): string[] => {
  /* c8 ignore next: a bug, for main.ts to show; the test of it mocks this file, which is not counted */
  if (!(error instanceof StoreError)) throw error
  return [`the shared store is away: ${error.message}`]
}

/** The same of a server that nobody here has open: nothing is written there. One line more where it is away. */
export const inspectRedisAt = async (
  settings: Pick<LinkSettings, 'url' | 'password' | 'ca' | 'timeout'>,
): Promise<string[]> => {
  const link = await openLink({ ...settings, channels: [] })
  return inspectRedis(link)
    .catch(toWarning)
    .finally(() => {
      link.close()
    })
}
