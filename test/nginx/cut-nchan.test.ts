// What Nchan is like where streams are cut: one id for each, so that nobody falls behind with two workers, and nothing is
// left of a stream that was. POSTERN_ROUNDS=12, POSTERN_ENDS=30 for the long run.

import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { nginxFound, until } from '../fixtures/postern.ts'
import { ask, V1 } from './ask.ts'
import { kickId, PASS, startDaemon } from './daemon.ts'
import { bearer, openSite } from './live.ts'
import { eventSource } from './listen.ts'
import { workersOf } from './several.ts'

const ROUNDS = Number(process.env['POSTERN_ROUNDS'] ?? 3)
const ENDS = Number(process.env['POSTERN_ENDS'] ?? 5)
const MANY = 100
const ALLOWED = 2048 // KiB, of all workers together
const OPEN = 10 // at once, into a burst of messages

void t.test(
  'nobody falls behind who opens while messages flow',
  { skip: nginxMissing() },
  async (t) => {
    const daemon = await startDaemon(t)
    const nginx = await startNginx(t, { postern: daemon.socket, workers: 2 })
    daemon.answer = ({ resource = '' }) => ({
      status: 204,
      headers: { ...PASS.headers, 'X-Auth-Channels': resource, 'X-Auth-Kick': kickId() },
    })
    for (let round = 0; round < ROUNDS; round++) {
      const channel = `lag-${round}`
      const publish = (body: string) => ask(nginx.port, `${V1}/pub/${channel}`, { body })
      const published: Promise<unknown>[] = []
      const timer = setInterval(() => published.push(publish('one of many')), 10)
      await delay(200)
      const streams = await Promise.all(
        Array.from({ length: OPEN }, () => eventSource(t, nginx.port, channel)),
      )
      await delay(500)
      clearInterval(timer)
      await Promise.all(published)
      await publish('the last')
      await delay(300)
      // With a second id, as a kick needs it, about a third of them.
      const behind = streams.filter(({ text }) => !text.includes('the last'))
      t.equal(behind.length, 0)
      for (const { close } of streams) close()
    }
  },
)

const skip = nginxMissing() || NEEDS_CUTTER.skip

void t.test(`${ENDS} times ${MANY} ends leave nothing`, { skip }, async (t) => {
  const site = await openSite(t, {
    sections: {
      sessions: 'per_user = 0',
      streams: 'per_session = 10000\nstreams_per_session = 10000',
    },
  })
  const { nginx, place } = site
  await startCutter(t, { ports: [nginx.port], socket: place.at('cut.sock') })
  await nginxFound(place)
  const channels = async (): Promise<number> => {
    const { body } = await ask(0, '/nchan', { socket: nginx.kickSocket })
    return Number(/^channels: (\d+)/m.exec(body)?.[1])
  }
  const memory = async (): Promise<number> => {
    let kib = 0
    for (const pid of await workersOf(nginx))
      kib += Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
    return kib
  }
  const round = async (): Promise<void> => {
    const { access } = await site.enter()
    const streams = await Promise.all(
      Array.from({ length: MANY }, () => eventSource(t, nginx.port, 'room-x', bearer(access))),
    )
    await site.publish('room-x', 'x')
    await site.post('/auth/logout', access)
    await until('they have ended', () => streams.every(({ live }) => !live))
  }
  await round()
  const [before, held] = [await channels(), await memory()]
  for (let at = 0; at < ENDS; at++) await round()
  const now = await memory()
  t.comment(`channels ${before} → ${await channels()}, memory ${held} → ${now} KiB`)
  const { body } = await place.operator('/metrics')
  const count = (pattern: RegExp): number => Number(pattern.exec(body)?.[1] ?? 0)
  const cut = count(/result="ended",means="cut"\} (\d+)/)
  // A busy machine keeps the cutter from its answer now and then.
  const kicked = count(/uncuttable_total\{why="silent"\} (\d+)/)
  t.equal(cut + kicked, (ENDS + 1) * MANY)
  t.ok(kicked < cut / 20)
  // Each kick leaves two.
  t.ok((await channels()) <= before + 2 * kicked)
  t.ok(now < held + ALLOWED)
  t.notMatch(nginx.errorLog(), /exited on signal/)
})
