// F6: Redis answers, and what it says is that it is the wrong one, or that we are.

import { mkdirSync, rmdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

import { until } from '../fixtures/postern.ts'
import { DURABLE, openBed, openHosts } from './bed.ts'
import { NEEDS_HOSTS } from './network.ts'
import { sufferAll } from './outage.ts'
import { untilItSays } from './redis-fault.ts'

void t.test('F6: of whom it serves', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['a'], {}, { ...DURABLE, dbfilename: 'dump' })
  const { redis } = bed
  const set = (name: string, value: string): string => redis.cli('CONFIG', 'SET', name, value)
  const dump = join(redis.folder, 'dump')
  await sufferAll(t, bed, hosts[0], [
    {
      name: 'READONLY: it became a replica',
      strike: () => redis.cli('REPLICAOF', '127.0.0.1', '1'),
      heal: () => redis.cli('REPLICAOF', 'NO', 'ONE'),
      says: /READONLY: it is a read-only replica/,
    },
    {
      name: 'MASTERDOWN: it became a replica that serves nothing stale',
      strike() {
        set('replica-serve-stale-data', 'no')
        redis.cli('REPLICAOF', '127.0.0.1', '1')
      },
      heal: () => redis.cli('REPLICAOF', 'NO', 'ONE'),
      says: /MASTERDOWN: it is a replica/,
    },
    {
      name: 'NOAUTH: it asks for a password from now on',
      strike() {
        set('requirepass', 'secret')
        redis.cli('-a', 'secret', 'CLIENT', 'KILL', 'TYPE', 'normal')
      },
      heal: () => redis.cli('-a', 'secret', 'CONFIG', 'SET', 'requirepass', ''),
      says: /NOAUTH: it asks for a password/,
    },
    {
      name: 'MISCONF: it cannot write to its disk',
      async strike() {
        mkdirSync(dump) // where its file would have to be
        set('save', '3600 1')
        redis.cli('BGSAVE')
        await untilItSays(redis, /^MISCONF/, 'SET', 'x', '1')
      },
      heal() {
        set('save', '')
        rmdirSync(dump)
      },
      says: /MISCONF: it cannot write to its disk/,
    },
  ])
})

void t.test('F6: WRONGPASS, its password was changed', NEEDS_HOSTS, async (t) => {
  const bed = await openBed(t)
  const { redis } = bed
  redis.cli('ACL', 'SETUSER', 'p', 'on', '>right', '~*', '&*', '+@all')
  const host = await bed.host('a', {
    store: `url = "${bed.url.replace('://', '://p:right@')}"`,
  })
  await host.start()
  await until('it can decide', async () => (await host.ready()) === 200)
  await sufferAll(t, bed, host, [
    {
      name: 'WRONGPASS',
      strike() {
        redis.cli('ACL', 'SETUSER', 'p', 'resetpass', '>another')
        redis.cli('CLIENT', 'KILL', 'USER', 'p')
      },
      heal: () => redis.cli('ACL', 'SETUSER', 'p', 'resetpass', '>right'),
      says: /WRONGPASS: it refuses the user or the password/,
    },
  ])
  t.notMatch(host.daemon().out(), /right@|:right|secret/, 'and no password stands in the log')
})
