// A thousand streams, of which two hundred are one user's: all of those end, and no other.

import t from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { endsWithin, HASH, openSite, withToken } from './live.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'

const BOUND = 2000 // milliseconds

void t.test('200 of 1,000', { skip: nginxMissing() }, async (t) => {
  const others = Array.from({ length: 8 }, (_, at) => `other-${at}`)
  const site = await openSite(t, {
    users: others.map((name) => `${name}:${HASH}:user`),
    sections: { sessions: 'per_user = 1000' },
  })
  const streams = new Map<string, Stream[]>()
  /** 50 sessions of this user, each with two tabs by EventSource and two by WebSocket, or half of that. */
  const fill = async (name: string, tabs: number): Promise<void> => {
    const found: Stream[] = []
    streams.set(name, found)
    for (let done = 0; done < 50; done += 10) {
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          const { access } = await site.enter(name)
          for (let tab = 0; tab < tabs; tab++) {
            const listen = tab % 2 === 0 ? eventSource : webSocket
            found.push(await listen(t, site.nginx.port, withToken('room-crowd', access)))
          }
        }),
      )
    }
  }
  await fill('201', 4)
  for (const name of others) await fill(name, 2)
  const mine = streams.get('201') ?? []
  const rest = others.flatMap((name) => streams.get(name) ?? [])
  t.same([mine.length, rest.length], [200, 800])

  const ended = endsWithin(mine, BOUND)
  t.same(JSON.parse((await site.control('/sessions/end?user=201')).body), { ended: 50 })
  const took = await ended
  t.comment(`${Math.round(took)} ms`)
  t.ok(took < BOUND, `${Math.round(took)} ms`)
  t.equal(rest.filter(({ live }) => live).length, 800)
  await site.publish('room-crowd', 'still here')
  for (const stream of rest) stream.close()
})
