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
import { eventSource, type Stream } from './listen.ts'
import { workersOf } from './several.ts'

const ROUNDS = Number(process.env['POSTERN_ROUNDS'] ?? 3)
const ENDS = Number(process.env['POSTERN_ENDS'] ?? 5)
const MANY = 100
const ALLOWED = 2048 // KiB, of all workers together
const BURST = 60 // messages, one each 10 ms

const said = ({ text }: Stream): string[] =>
  [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)

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
      const streams: Stream[] = []
      let opening: Promise<unknown> = Promise.resolve()
      for (let at = 0; at < BURST; at++) {
        await ask(nginx.port, `${V1}/pub/${channel}`, { body: String(at) })
        if (at % 10 === 5) {
          opening = eventSource(t, nginx.port, channel).then((stream) => streams.push(stream))
        }
        await delay(10)
      }
      await opening
      await delay(300)
      const last = String(BURST - 1)
      const behind = streams.filter((stream) => said(stream).at(-1) !== last)
      t.equal(behind.length, 0, `${behind.length} of ${streams.length} are behind`)
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
  t.equal(await channels(), before)
  t.ok(now < held + ALLOWED)
  const { body } = await place.operator('/metrics')
  t.match(body, `result="ended",means="cut"} ${(ENDS + 1) * MANY}`)
  t.notMatch(nginx.errorLog(), /exited on signal/)
})
