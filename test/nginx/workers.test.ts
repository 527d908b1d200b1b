// A worker of nginx that dies amid streams: it is known within seconds, what can be ended is, and the rest is counted
// until a reload.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { ask } from './ask.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'
import { openSite, type Site, withToken } from './live.ts'
import { reloadWhole, workersOf } from './several.ts'

const STREAMS = 40

const metric = async ({ place }: Site, name: string): Promise<number> => {
  const { body } = await place.operator('/metrics')
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(body)?.[1])
}

void t.test('a worker is killed', { skip: nginxMissing() }, async (t) => {
  const file = join(t.testdir(), 'cgroup.procs')
  const site = await openSite(t, { streams: `processes = "${file}"`, nginx: { workers: 2 } })
  const { nginx } = site
  /** What the kernel does for the unit's control group. */
  const list = async (): Promise<number[]> => {
    const workers = await workersOf(nginx)
    writeFileSync(file, [nginx.pid, ...workers].map((pid) => `${pid}\n`).join(''))
    return workers
  }
  const [first] = await list()
  const timer = setInterval(() => void list(), 100)
  t.teardown(() => clearInterval(timer))
  await until('the processes are read', async () => {
    const { body } = await ask(0, '/ready', { socket: site.place.at('control.sock') })
    return !(JSON.parse(body) as { nginx: { guessed: boolean } }).nginx.guessed
  })

  const open: { token: string; stream: Stream }[] = []
  for (let at = 0; at < STREAMS; at++) {
    const { access: token } = await site.enter()
    const listen = at % 2 === 0 ? eventSource : webSocket
    open.push({ token, stream: await listen(t, nginx.port, withToken(`room-${at % 4}`, token)) })
  }
  await delay(10_500) // no check is under way any more: one DELETE says it
  process.kill(Number(first), 'SIGKILL')
  const killedAt = performance.now()
  await until('it is counted', async () => {
    return (await metric(site, 'postern_nginx_worker_deaths_total')) === 1
  })
  await until('it is said', () =>
    /a worker of nginx died.*reload nginx/.test(site.daemon().out() + site.daemon().err()),
  )
  const took = (performance.now() - killedAt) / 1000
  t.ok(took < 5, `${took.toFixed(1)} s`)
  t.equal(await metric(site, 'postern_nginx_reload_due'), 1)

  const survivors = open.filter(({ stream }) => stream.live)
  t.comment(`${survivors.length} of ${STREAMS} streams survived`)
  for (const { token } of survivors) t.equal((await site.post('/auth/logout', token)).status, 200)
  await delay(1000)
  const left = survivors.filter(({ stream }) => stream.live).length
  const unsure = await metric(site, 'postern_streams_unsure')
  t.comment(`${left} could not be ended, ${unsure} are counted`)
  t.ok(unsure >= left, 'each of them')

  await reloadWhole(nginx)
  await until('it is whole', async () => (await metric(site, 'postern_nginx_reload_due')) === 0)
  await Promise.all(survivors.map(({ stream }) => stream.ended))
  await until('none is left', async () => (await metric(site, 'postern_streams_unsure')) === 0)
  t.equal(await metric(site, 'postern_nginx_worker_deaths_total'), 1, 'a reload is no death')
})
