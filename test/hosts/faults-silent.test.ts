// F3 and F5: Redis takes the connection and says nothing, or is behind a hole.

import t from 'tap'

import { openHosts } from './bed.ts'
import { NEEDS_HOSTS } from './network.ts'
import { sufferAll } from './outage.ts'
import { spawnCli, untilItSays } from './redis-fault.ts'

void t.test('F3 and F5: it says nothing', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['a'])
  const [host] = hosts
  let slept: Promise<unknown> = Promise.resolve()
  await sufferAll(t, bed, host, [
    {
      name: 'F3: SIGSTOP',
      strike: () => bed.redis.signal('SIGSTOP'),
      heal: () => bed.redis.signal('SIGCONT'),
      says: /does not answer/,
    },
    {
      name: 'F3: DEBUG SLEEP',
      async strike() {
        slept = spawnCli(bed.redis, 'DEBUG', 'SLEEP', '4.5')
        await untilItSays(bed.redis, /silence/, 'PING')
      },
      heal: () => slept,
      says: /does not answer/,
    },
    {
      name: 'F3: CLIENT PAUSE',
      strike: () => bed.redis.cli('CLIENT', 'PAUSE', '4500', 'ALL'),
      heal: () => spawnCli(bed.redis, 'PING'),
      says: /does not answer/,
    },
    {
      name: 'F5: a firewall that drops everything',
      strike: () => host.machine.drop(100),
      heal: () => host.machine.clear(),
      says: /does not answer/,
    },
    {
      name: 'F5: a cable that was pulled',
      strike: () => host.machine.unplug(),
      heal: () => host.machine.plug(),
      says: /does not answer/,
    },
  ])
})
