// F8: Redis starts from an older copy of its data, and has forgotten the last logouts.

import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import { type Bed, openHosts } from './bed.ts'
import { startLoad } from './load.ts'
import { PAST_THE_SECOND, refusesOld, works } from './lost-data.ts'
import { NEEDS_HOSTS } from './network.ts'

const COPIES = [
  {
    name: 'RDB',
    options: { appendonly: 'no' },
    keep: ({ redis }: Bed) => void redis.cli('SAVE'),
    restore: () => undefined, // it is what a start without an AOF reads
  },
  {
    name: 'AOF',
    options: { appendonly: 'yes', appendfsync: 'always' },
    keep({ redis }: Bed) {
      cpSync(join(redis.folder, 'appendonlydir'), join(redis.folder, 'kept'), { recursive: true })
    },
    restore({ redis }: Bed) {
      rmSync(join(redis.folder, 'appendonlydir'), { recursive: true })
      cpSync(join(redis.folder, 'kept'), join(redis.folder, 'appendonlydir'), { recursive: true })
    },
  },
] as const

for (const { name, options, keep, restore } of COPIES) {
  void t.test(`F8: a start from an older ${name} revives nobody`, NEEDS_HOSTS, async (t) => {
    const { bed, hosts } = await openHosts(t, ['a', 'b'], {}, options)
    const [a, b] = hosts
    const [kept, gone, rotated] = [await a.login(), await a.login(), await b.enter()]
    await pause(1100)
    keep(bed)
    t.equal(await a.logout(gone.access), 200)
    const next = await a.rotate(rotated.refresh)
    t.equal(next.status, 200)
    const late = await b.login()
    await until('b knows', async () => (await b.check(gone.access)) === '401 session_ended')
    const loads = hosts.map(({ socket }) => startLoad(t, socket, () => gone.access))
    await pause(1100)

    await bed.redis.kill()
    restore(bed)
    await bed.redis.start()
    await refusesOld(t, hosts, [kept.access, gone.access, late.access, next.access])
    t.equal(
      (await patiently(() => b.refresh(gone.refresh))).status,
      401,
      'what was ended is ended anew',
    )
    t.equal(
      (await patiently(() => b.refresh(late.refresh))).status,
      401,
      'what came after the copy is unknown',
    )
    t.equal((await patiently(() => a.rotate(next.next))).status, 401)
    await pause(PAST_THE_SECOND)
    const renewed = await patiently(() => b.refresh(kept.refresh))
    t.equal(renewed.status, 200, 'what was in the copy, and never ended, goes on')
    const { access_token: token } = JSON.parse(renewed.body) as { access_token: string }
    t.equal(await a.check(token), '204')

    // One that knows only what Redis says now.
    const fresh = await bed.host('c')
    await fresh.start()
    await until('it is ready', async () => (await fresh.ready()) === 200)
    t.equal(await fresh.check(gone.access), '401 session_ended')
    t.equal(await fresh.check(kept.access), '401 session_ended')
    t.equal(await fresh.check(token), '204')
    t.equal((await patiently(() => fresh.refresh(gone.refresh))).status, 401)
    await works(t, [a, b, fresh])
    for (const load of loads) {
      t.same(
        (await load.stop()).filter(({ status }) => status !== 401),
        [],
        'an ended one was never let in',
      )
    }
  })
}
