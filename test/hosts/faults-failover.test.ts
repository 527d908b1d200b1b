// F8: the primary dies, and a sentinel makes its replica the primary: one that has everything, or one that lacks the
// last that was acknowledged.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import { type RedisServer, startRedis } from '../fixtures/redis.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { type Bed, HEALS_WITHIN, type Host, inOneOfThree, openBed, PATIENT } from './bed.ts'
import { type Answered, inWords, lateOnes, startLoad } from './load.ts'
import { PAST_THE_SECOND, refusesOld, works } from './lost-data.ts'
import { DIES_WITH_US, type Machine, NEEDS_HOSTS } from './network.ts'

const REACHABLE = { bind: '0.0.0.0', 'protected-mode': 'no' }
// The disk is shared with every other test, and nobody reads what a killed one had.
const SOON_DURABLE = { appendonly: 'yes', appendfsync: 'everysec', 'repl-diskless-sync-delay': '0' }
const DOWN_AFTER = 2000 // milliseconds of silence until the sentinel acts: a busy machine's Redis is silent as well

interface Replicated {
  readonly bed: Bed
  readonly hosts: readonly [Host, Host]
  readonly replica: RedisServer
  /** Where the replica is. */
  readonly second: Machine
  /** Everything that was acknowledged is there as well. */
  followed(): void
}

const openReplicated = async (t: Test): Promise<Replicated> => {
  const bed = await openBed(t, SOON_DURABLE)
  const { network, redis, store } = bed
  const [second, third] = [await network.machine('second'), await network.machine('third')]
  const under = (machine: Machine): string[] => [...machine.inside, ...DIES_WITH_US]
  const replica = await startRedis(t, { ...REACHABLE, ...SOON_DURABLE }, [], under(second))
  replica.cli('REPLICAOF', store.address, String(redis.port))
  const followed = (): void => {
    const reached = redis.cli('WAIT', '1', '20000')
    if (reached !== '1') throw new Error(`the replica does not follow: ${reached}`)
  }
  await until('it follows', () => replica.cli('ROLE').includes('connected'))
  const file = join(t.testdir(), 'sentinel.conf')
  writeFileSync(
    file,
    `bind 0.0.0.0
protected-mode no
sentinel monitor main ${store.address} ${redis.port} 1
sentinel down-after-milliseconds main ${DOWN_AFTER}
sentinel failover-timeout main 3000
`,
  )
  const sentinel = await startRedis(t, {}, [file, '--sentinel'], under(third))
  await until('it is known', () =>
    sentinel.cli('SENTINEL', 'REPLICAS', 'main').includes(second.address),
  )
  const url = `redis+sentinel://${third.address}:${sentinel.port}/main`
  const section = { store: `${PATIENT.store}\nurl = "${url}"` }
  const hosts = [await bed.host('a', section), await bed.host('b', section)] as const
  for (const host of hosts) await host.start()
  for (const { name, ready } of hosts) await until(name, async () => (await ready()) === 200)
  return { bed, hosts, replica, second, followed }
}

/** What was not as it is where nothing else keeps the machine: allowed from memory throughout, and healed soon. */
const inStep = (good: readonly Answered[], ours: number): string[] => [
  ...good
    .filter(({ status }) => status === 503)
    .map(({ reason }) => `a check was not decided: ${reason}`),
  ...(ours > HEALS_WITHIN * 1000 ? [`healed after ${Math.round(ours)} ms`] : []),
]

const isPrimary = (server: RedisServer) => (): boolean => server.cli('ROLE').startsWith('master')

void t.test(
  'F8: a replica that has everything takes over, and nothing is lost',
  NEEDS_HOSTS,
  async (t) => {
    await inOneOfThree(t, 'in time', async () => {
      const { bed, hosts, replica, followed } = await openReplicated(t)
      const [a, b] = hosts
      const [kept, gone, rotating] = [await a.login(), await b.login(), await a.enter()]
      t.equal(await a.logout(gone.access), 200)
      await until('b knows', async () => (await b.check(gone.access)) === '401 session_ended')
      const good = hosts.map(({ socket }) => startLoad(t, socket, () => kept.access))
      const ended = hosts.map(({ socket }) => startLoad(t, socket, () => gone.access))
      followed()

      const died = performance.now()
      await bed.redis.kill()
      await until('the replica is the primary', isPrimary(replica))
      const promoted = performance.now()
      const elapsed = startStopwatch()
      for (const { name, ready } of hosts) await until(name, async () => (await ready()) === 200)
      const { took, ours } = elapsed()
      await pause(300)

      const answers = (await Promise.all(good.map(({ stop }) => stop()))).flat()
      const refusals = (await Promise.all(ended.map(({ stop }) => stop()))).flat()
      t.same(
        refusals.filter(({ status }) => status !== 401),
        [],
        'an ended one was never let in',
      )
      t.same(
        answers.filter(({ status }) => status !== 204 && status !== 503),
        [],
        'a good one is allowed, or not decided about',
      )
      t.equal((await patiently(() => b.refresh(kept.refresh))).status, 200)
      t.equal((await patiently(() => b.rotate(rotating.refresh))).status, 200)
      t.equal((await patiently(() => b.refresh(gone.refresh))).status, 401)
      await works(t, hosts)
      for (const host of hosts) {
        t.notMatch(host.storeLines().join(' | '), /has lost data/)
        t.match(host.storeLines().at(-1), /in step/)
        await host.daemon().end()
      }
      const all = [...answers, ...refusals]
      t.comment(
        `promoted ${Math.round(promoted - died)} ms after, decided ${Math.round(took)} ms later; ` +
          `${all.length} checks: ${inWords(all.map(({ took }) => took))}`,
      )
      return [...lateOnes(all), ...inStep(answers, ours)]
    })
  },
)

void t.test(
  'F8: a replica that had fallen behind takes over, and revives nobody',
  NEEDS_HOSTS,
  async (t) => {
    const { bed, hosts, replica, second, followed } = await openReplicated(t)
    const [a, b] = hosts
    const [kept, gone] = [await a.login(), await a.login()]
    await pause(1100) // into another second than these logins
    followed()
    second.drop(100)
    const late = await b.login()
    t.equal(await a.logout(gone.access), 200, 'acknowledged, and nowhere but at the primary')
    await until('b knows', async () => (await b.check(gone.access)) === '401 session_ended')
    const ended = hosts.map(({ socket }) => startLoad(t, socket, () => gone.access))

    await bed.redis.kill()
    // With its machine: what it had sent and nobody had received would still arrive, its kernel sees to that.
    bed.store.unplug()
    second.clear()
    await until('the replica is the primary', isPrimary(replica))
    await refusesOld(t, hosts, [kept.access, gone.access, late.access])
    t.equal((await patiently(() => b.refresh(gone.refresh))).status, 401, 'it is ended anew')
    t.equal((await patiently(() => b.refresh(late.refresh))).status, 401, 'it never knew that one')
    await works(t, hosts)
    t.equal((await patiently(() => b.refresh(kept.refresh))).status, 200, 'what it knew goes on')

    bed.store.plug()
    await bed.redis.start()
    await until('who was the primary follows', () => !isPrimary(bed.redis)())
    await pause(PAST_THE_SECOND) // two readings
    await works(t, hosts)
    for (const host of hosts) {
      const said = host.storeLines().filter((line) => line.includes('has lost data'))
      t.equal(said.length, 1, 'its return is no second loss')
      t.equal(await host.ready(), 200)
    }
    for (const load of ended) {
      t.same(
        (await load.stop()).filter(({ status }) => status !== 401),
        [],
        'an ended one was never let in',
      )
    }
  },
)
