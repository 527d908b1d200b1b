// A right that ends while the check of a new stream is still under way: that stream closes too.

import { createServer, request } from 'node:http'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { type Place, until } from '../fixtures/postern.ts'
import { endsWithin, openSite, QUIET_WAYS, withToken } from './live.ts'
import type { Stream } from './listen.ts'

const LATE = 1000 // milliseconds that a check's answer is held back

/** Stands between nginx and the daemon, and holds the answers to checks back where it is told to. */
const startProxy = async (t: Test, place: Place) => {
  const state = { late: 0, answered: 0 }
  const server = createServer({ keepAliveTimeout: 75_000 }, (incoming, outgoing) => {
    const { method, url, headers } = incoming
    const onwards = request({ socketPath: place.at('http.sock'), method, path: url, headers })
    onwards.on('error', () => outgoing.destroy())
    onwards.on('response', (response) => {
      state.answered++
      setTimeout(() => {
        outgoing.writeHead(Number(response.statusCode), response.rawHeaders)
        response.pipe(outgoing)
      }, state.late)
    })
    incoming.pipe(onwards)
  }).listen(place.at('proxy.sock'))
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return state
}

void t.test('a logout during the check', { skip: nginxMissing() }, async (t) => {
  let proxy = { late: 0, answered: 0 }
  const site = await openSite(t, {
    through: async (place) => {
      proxy = await startProxy(t, place)
      return place.at('proxy.sock')
    },
  })
  const { nginx, enter, post } = site

  for (const [way, listen] of QUIET_WAYS) {
    await t.test(`${way}: what the check has just allowed closes`, async (t) => {
      // Alone, and beside each way in which the session listens already: ids that are shared end as well.
      const all = Array.from({ length: 20 }, async (_, round) => {
        const { access } = await enter('201')
        const channel = `room-race-${way.toLowerCase()}-${round}`
        const [, before] = QUIET_WAYS[round % 4] ?? []
        const there: Stream[] = []
        if (before) there.push(await before(t, nginx.port, withToken(channel, access)))
        return { access, channel, there }
      })
      const rounds = await Promise.all(all)
      await until('they are let in', async () => {
        const counts = await Promise.all(rounds.map(({ access }) => site.admitted(access)))
        return counts.every((count, at) => count >= (rounds[at]?.there.length ?? 0))
      })
      proxy.late = LATE
      const answered = proxy.answered
      const began = performance.now()
      const coming = rounds.map(async ({ access, channel }) =>
        listen(t, nginx.port, withToken(channel, access)),
      )
      await until('all are allowed', () => proxy.answered >= answered + rounds.length)
      await Promise.all(rounds.map(async ({ access }) => post('/auth/logout', access)))
      const said = performance.now() - began
      proxy.late = 0
      const streams = await Promise.all(coming)
      t.equal(streams.length, 20)
      t.comment(`logged out after ${Math.round(said)} ms, open after ${LATE}`)
      await endsWithin([...rounds.flatMap(({ there }) => there), ...streams], 1500)
    })
  }

  await t.test('and a check that is answered after the logout lets nobody in', async (t) => {
    const { access } = await enter('201')
    t.equal((await post('/auth/logout', access)).status, 200)
    await t.rejects(
      QUIET_WAYS[0][1](t, nginx.port, withToken('room-x', access)),
      /EventSource: 401/,
    )
    await delay(0)
  })
})
