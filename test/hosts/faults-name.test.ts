// F43: the name of Redis cannot be looked up, or leads somewhere else from now on.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import { type Bed, type Host, inOneOfThree, openBed } from './bed.ts'
import { type Answered, createAsker, inWords, lateOnes } from './load.ts'
import { DIES_WITH_US, NEEDS_HOSTS } from './network.ts'

interface Names {
  /** `silent`, `fails`, `unknown` or an address. */
  answer(what: string): void
  /** When it was asked, in milliseconds of its own clock. */
  asked(): number[]
}

/** The DNS of that host. */
const serveNames = async (t: Test, host: Host): Promise<Names> => {
  const [command, ...rest] = [...host.machine.inside, ...DIES_WITH_US, process.execPath]
  const child = spawn(command, [...rest, `${import.meta.dirname}/name-server.ts`], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'] },
  })
  t.teardown(() => child.kill('SIGKILL'))
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  await once(child.stdout, 'data')
  return {
    answer: (what) => void child.stdin.write(`${what}\n`),
    asked: () => text.split('\n').slice(1, -1).map(Number),
  }
}

const openNamed = async (
  t: Test,
  store = '',
): Promise<{ bed: Bed; host: Host; other: Host; names: Names }> => {
  const bed = await openBed(t)
  const other = await bed.host('b')
  await other.start()
  const host = await bed.host('a', {
    store: `url = "redis://store.example:${bed.redis.port}"${store}`,
  })
  return { bed, host, other, names: await serveNames(t, host) }
}

const isReady = (host: Host) => async (): Promise<boolean> => (await host.ready()) === 200

void t.test('F43: a name that is not known is a fault of the store', NEEDS_HOSTS, async (t) => {
  const { bed, host, other, names } = await openNamed(t)
  const { access, refresh } = await other.login()
  const ask = createAsker(t, host.socket)
  await host.start()
  for (const [answer, says, questions] of [
    ['unknown', /ENOTFOUND: its name is not known/, 1],
    ['fails', /EAI_AGAIN: its name cannot be looked up now/, 2], // libc asks twice
  ] as const) {
    names.answer(answer)
    await until('the log says so', () => host.storeLines().some((line) => says.test(line)))
    const before = names.asked().length
    const startedAt = performance.now()
    for (let round = 0; round < 8; round++) {
      t.equal((await ask(access)).status, 503)
      t.equal((await host.refresh(refresh)).status, 503)
      await pause(500)
    }
    const times = names.asked().slice(before)
    const seconds = (performance.now() - startedAt) / 1000
    // Two connections, each tried after 0.25 to 0.5 s once it has been away for long.
    const [least, most] = [seconds, 2 * 4 * questions * (seconds + 1)]
    t.ok(times.length >= least && times.length <= most, `${times.length} questions in ${seconds} s`)
    const gaps = new Set(times.map((at, index) => Math.round(at - (times[index - 1] ?? 0))))
    t.ok(gaps.size > times.length / 4, 'not in step')
  }
  names.answer(bed.store.address)
  const since = performance.now()
  await until('it is ready', isReady(host))
  t.comment(`ready ${Math.round(performance.now() - since)} ms after its name is known`)
  t.equal(await host.check(access), '204')
  t.equal((await patiently(() => host.refresh(refresh))).status, 200)
})

void t.test('F43: an address that changes is followed', NEEDS_HOSTS, async (t) => {
  const { bed, host, other, names } = await openNamed(t)
  const [first, second] = [bed.store.address, '10.77.0.201']
  names.answer(first)
  await host.start()
  await until('it is ready', isReady(host))
  const { access } = await host.login()
  await inOneOfThree(t, 'in time', async () => {
    bed.store.sh(`ip addr del ${first}/24 dev eth0; ip addr add ${second}/24 dev eth0`)
    names.answer(second)
    const since = performance.now()
    await until('it notices', async () => (await host.ready()) === 503)
    await until('it is ready', isReady(host))
    const took = performance.now() - since
    t.equal(await host.check(access), '204')
    t.equal((await patiently(() => host.tryLogin())).status, 200)
    t.equal(await other.ready(), 503, 'who has the old address only is out')
    bed.store.sh(`ip addr del ${second}/24 dev eth0; ip addr add ${first}/24 dev eth0`)
    names.answer(first)
    await until(
      'it is back',
      async () => (await host.ready()) === 200 && (await other.ready()) === 200,
    )
    t.comment(`followed in ${Math.round(took)} ms`)
    return took > 4000 ? [`${took} ms`] : []
  })
})

void t.test(
  'F43: a name server that says nothing keeps no check waiting',
  NEEDS_HOSTS,
  async (t) => {
    const { bed, host, other, names } = await openNamed(t, '\nstale_seconds = 60')
    names.answer(bed.store.address)
    await host.start()
    await until('it is ready', isReady(host))
    const ask = createAsker(t, host.socket)
    await inOneOfThree(t, 'in time', async () => {
      const sessions = await Promise.all(Array.from({ length: 60 }, () => other.login()))
      names.answer('silent')
      await bed.redis.kill()
      await pause(6000) // questions without an answer pile up
      const answers: Answered[] = []
      for (const { access } of sessions) {
        // Of tokens that it has never seen: nothing of them is remembered.
        const answer = await ask(access)
        t.equal(answer.status, 204)
        answers.push(answer)
        await pause(20)
      }
      names.answer(bed.store.address)
      await bed.redis.start()
      const since = performance.now()
      await until('it is ready', isReady(host))
      await until('the other is ready', isReady(other))
      t.comment(
        `checks: ${inWords(answers.map((one) => one.took))}; ready after ${Math.round(performance.now() - since)} ms`,
      )
      return lateOnes(answers)
    })
  },
)
