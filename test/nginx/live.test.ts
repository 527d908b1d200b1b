// Access that ends when it ends: real nginx, real Nchan, the real daemon, and clients in every way they listen.

import t from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { ask, V1 } from './ask.ts'
import { claimsOf, endsWithin, openSite, QUIET_WAYS, withToken } from './live.ts'
import { eventSource, settle, type Stream, webSocket } from './listen.ts'

const ROUNDS = 20
const BOUND = 500 // milliseconds after the end of the right

void t.test('what ends a stream', { skip: nginxMissing() }, async (t) => {
  const site = await openSite(t)
  const { nginx, publish, enter, post } = site

  for (const [way, listen] of QUIET_WAYS) {
    await t.test(`${way}: logout closes both tabs, and no stream of another`, async (t) => {
      const took: number[] = []
      for (let round = 0; round < ROUNDS; round++) {
        const channel = `room-${way.toLowerCase()}-${round}`
        const [mine, other] = [await enter('201'), await enter('202')]
        const tabs = [
          await listen(t, nginx.port, withToken(channel, mine.access)),
          await listen(t, nginx.port, withToken(channel, mine.access)),
        ]
        const stays = await listen(t, nginx.port, withToken(channel, other.access))
        await until('they are let in', async () => (await site.admitted(mine.access)) > 0)
        const ended = endsWithin(tabs, BOUND)
        t.equal((await post('/auth/logout', mine.access)).status, 200)
        took.push(await ended)
        t.equal((await ask(nginx.port, `${V1}/sub/${withToken(channel, mine.access)}`)).status, 401)
        t.ok(stays.live)
        await until('the other hears', async () => {
          if (!stays.text.includes('after')) await publish(channel, 'after')
          return stays.text.includes('after')
        })
        t.ok(tabs.every(({ text }) => !text.includes('after')))
        stays.close()
        await post('/auth/logout', other.access)
      }
      t.comment(`slowest ${Math.round(Math.max(...took))} ms`)
      t.ok(Math.max(...took) < BOUND, `${Math.round(Math.max(...took))} ms`)
    })
  }

  await t.test('a user ends another session of theirs, by the list', async (t) => {
    const [here, there, other] = [await enter('201'), await enter('201'), await enter('202')]
    const streams = [
      await eventSource(t, nginx.port, withToken('room-own', there.access)),
      await webSocket(t, nginx.port, withToken('room-own', there.access)),
    ]
    const stays = await webSocket(t, nginx.port, withToken('room-own', here.access))
    const id = claimsOf(there.access).sid
    t.equal(
      (await post(`/auth/sessions/${id}`, other.access, 'DELETE')).status,
      404,
      "a stranger's",
    )
    t.ok(streams.every(({ live }) => live))
    t.equal((await post(`/auth/sessions/${id}`, here.access, 'DELETE')).status, 200)
    await endsWithin(streams, BOUND)
    t.ok(stays.live)
    stays.close()
  })

  await t.test(
    'what comes back by Last-Event-ID misses nothing and hears nothing twice',
    async (t) => {
      const said = ({ text }: Stream): string[] =>
        [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)
      const last = ({ text }: Stream): string =>
        [...text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? ''
      for (let round = 0; round < ROUNDS; round++) {
        const channel = `room-resume-${round}`
        const { access } = await enter('201')
        const path = withToken(channel, access)
        const first = await eventSource(t, nginx.port, path)
        await settle()
        await publish(channel, '1')
        await publish(channel, '2')
        await until('two are heard', () => said(first).length === 2)
        await site.control(`/sessions/kick?id=${claimsOf(access).sid}`)
        await endsWithin([first], BOUND)
        await publish(channel, '3')
        await publish(channel, '4')
        const second = await eventSource(t, nginx.port, path, { 'Last-Event-ID': last(first) })
        await publish(channel, '5')
        // Whoever catches up while another message comes may be one behind until the next (Nchan 1.3.6).
        await until('all are heard', async () => {
          if (!said(second).includes('5')) await publish(channel, 'next')
          return said(second).includes('5')
        })
        t.same([...said(first), ...said(second)].slice(0, 5), ['1', '2', '3', '4', '5'])
        second.close()
      }
    },
  )

  await t.test('nginx logs no token of all these', async (t) => {
    t.notMatch(nginx.accessLog() + nginx.errorLog(), /eyJ[\w-]+\.[\w-]+\./)
    t.notMatch(nginx.errorLog(), /exited on signal/)
    t.notMatch(site.daemon().out(), /could not be ended/)
  })
})
