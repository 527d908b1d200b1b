// A token that ends takes its streams along, on channels that are never quiet; a refresh keeps them.

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { startStopwatchAt } from '../fixtures/stopwatch.ts'
import { ask, V1 } from './ask.ts'
import { bearer, claimsOf, openSite, WAYS, withToken } from './live.ts'
import { eventSource, webSocket } from './listen.ts'

const ROUNDS = 20
const BOUND = 500 // milliseconds after the end of the right

void t.test('the end of a token', { skip: nginxMissing() }, async (t) => {
  // Sixty sessions of one user, of which none may end for another.
  const site = await openSite(t, {
    sections: { softphone: 'access_ttl = 4', sessions: 'per_user = 0' },
  })
  const { nginx, enter, post } = site
  const channel = 'room-busy'
  site.keepBusy(t, channel)
  t.jobs = 5 // at once: what all of them do is wait for an end

  for (const [way, listen] of WAYS) {
    void t.test(`${way}: closed within half a second, and cannot come back`, async (t) => {
      const one = async (): Promise<number> => {
        const { access } = await enter('201')
        const stream = await listen(t, nginx.port, withToken(channel, access))
        const end = claimsOf(access).exp * 1000
        const sinceEnd = startStopwatchAt(end)
        const outcome = await Promise.race([stream.ended, delay(30_000, 'still open')])
        t.ok(Date.now() >= end, 'not before')
        const { ours: took } = (await sinceEnd)()
        t.not(outcome, 'still open')
        t.ok(stream.text.includes('busy'))
        const back = { 'Last-Event-ID': '1:0', 'If-None-Match': '0' }
        const path = `${V1}/sub/${withToken(channel, access)}`
        t.equal((await ask(nginx.port, path, { headers: back })).status, 401)
        return took
      }
      const rounds: Promise<number>[] = []
      for (let round = 0; round < ROUNDS; round++) {
        rounds.push(one())
        await delay(100) // so that the ends fall on every part of a second's ticks
      }
      const took = await Promise.all(rounds)
      const [least, most] = [Math.min(...took), Math.max(...took)].map(Math.round)
      t.comment(`${way}: ${least} to ${most} ms after exp`)
      t.ok(Math.max(...took) < BOUND, `${most} ms`)
    })
  }

  void t.test('a session that refreshes keeps its streams', async (t) => {
    const { access, refresh } = await enter('201')
    const streams = [
      await eventSource(t, nginx.port, withToken(channel, access)),
      await webSocket(t, nginx.port, withToken(channel, access)),
    ]
    const end = claimsOf(access).exp * 1000
    let until = end
    while (until < end + 5000) {
      const reply = await post('/auth/refresh', refresh)
      t.equal(reply.status, 200)
      const token = (JSON.parse(reply.body) as { access_token: string }).access_token
      until = claimsOf(token).exp * 1000
      await delay(900)
    }
    t.ok(Date.now() > end + 1000)
    t.ok(
      streams.every(({ live }) => live),
      'long after the token they came with',
    )
    const sinceEnd = startStopwatchAt(until)
    const bodies = await Promise.all(streams.map(({ ended }) => ended))
    t.ok(Date.now() >= until)
    const { took, ours } = (await sinceEnd)()
    t.ok(ours < BOUND, `${Math.round(took)} ms`)
    t.equal(bodies.length, 2)
  })

  void t.test('headers do as well', async (t) => {
    const { access } = await enter('201')
    const stream = await eventSource(t, nginx.port, channel, bearer(access))
    const end = claimsOf(access).exp * 1000
    const sinceEnd = startStopwatchAt(end)
    await stream.ended
    t.ok(Date.now() >= end)
    const { took, ours } = (await sinceEnd)()
    t.ok(ours < BOUND, `${Math.round(took)} ms`)
  })
})
