// Daemons that share one Redis: with the same keys, which an operator copies, and the same users.

import { loadKeys } from '../src/config/keys-file.ts'
import type { Place } from './place.ts'
import { openPostern, type Options, type Postern } from './postern.ts'
import type { Redis } from './redis-server.ts'

export const openShared = async (
  place: Place,
  redis: Redis,
  options: Options = {},
): Promise<Postern> => {
  const state = options.state ?? place.folder(`${options.name ?? 'postern'}-state`)
  await loadKeys(state) // made where there are none
  const { settings = '' } = options
  const postern = await openPostern(place, {
    ...options,
    state,
    settings: `[store]\nurl = "${redis.url}"\n${settings}`,
  })
  // What is measured must be what is said to be: a daemon that kept its sessions elsewhere would look fast.
  const held = Number(/^:(\d+)/m.exec(await redis.command('DBSIZE'))?.[1])
  if (held === 0) throw new Error('the daemon has written nothing to Redis')
  return postern
}
