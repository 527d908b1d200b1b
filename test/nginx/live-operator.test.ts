// What an operator ends: users, sessions, streams. Only what was meant, and all of that.

import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { ask, V1 } from './ask.ts'
import { claimsOf, endsWithin, HASH, openSite, QUIET_WAYS, withToken } from './live.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'

const ROUNDS = 20
const BY_COMMAND = 2
const BOUND = 500 // milliseconds after the end of the right

void t.test('what an operator ends', { skip: nginxMissing() }, async (t) => {
  const names = Array.from({ length: ROUNDS }, (_, at) => `gone-${at}`)
  const site = await openSite(t, { users: names.map((name) => `${name}:${HASH}:user`) })
  const { nginx, enter, post } = site

  await t.test('disabling the user closes all of theirs, and no other', async (t) => {
    const channel = 'room-ban'
    const other = await enter('202')
    const stays = await eventSource(t, nginx.port, withToken(channel, other.access))
    for (const [round, name] of names.entries()) {
      const { access } = await enter(name)
      const streams: Stream[] = []
      for (const [, listen] of QUIET_WAYS) {
        streams.push(await listen(t, nginx.port, withToken(channel, access)))
      }
      // By the command, and as often by what it does, which takes less time.
      if (round < BY_COMMAND) {
        t.match(await site.postern('user', 'disable', name), /1 session ended/)
      } else {
        const text = readFileSync(site.place.at('users'), 'utf8')
        writeFileSync(site.place.at('users'), text.replace(`${name}:`, `${name}:!`))
        t.same(JSON.parse((await site.control('/users/reload')).body), { ended: 1 })
      }
      await endsWithin(streams, BOUND)
      const again = await ask(nginx.port, `${V1}/sub/${withToken(channel, access)}`)
      t.equal(again.status, 401)
    }
    t.ok(stays.live)
    stays.close()
  })

  await t.test('an operator ends and kicks, and sees who listens', async (t) => {
    const channel = 'room-operator'
    const [mine, other] = [await enter('201'), await enter('202')]
    const { sid } = claimsOf(mine.access)
    const open = async (token: string): Promise<Stream[]> => [
      await eventSource(t, nginx.port, withToken(channel, token)),
      await webSocket(t, nginx.port, withToken(channel, token)),
    ]
    const first = await open(mine.access)
    const stays = await open(other.access)

    const listed = JSON.parse(await site.postern('session', 'list', '--json', '--user', '201')) as {
      id: string
      subscriptions: { resource: string }[]
    }[]
    const found = listed.find(({ id }) => id === sid)
    t.match(found?.subscriptions, [{ resource: channel }, { resource: channel }])
    t.match(await site.postern('session', 'list'), new RegExp(`${sid} +201 +${channel}`))

    t.equal(await site.postern('session', 'kick', sid), '2 streams ended')
    await endsWithin(first, BOUND)
    const second = await open(mine.access) // the session goes on
    t.equal(await site.postern('session', 'kick', '--user', '201'), '2 streams ended')
    await endsWithin(second, BOUND)

    const third = await open(mine.access)
    t.equal(await site.postern('session', 'end', sid), '1 session ended')
    await endsWithin(third, BOUND)
    t.equal((await post('/profile', mine.access, 'GET')).status, 401)
    t.ok(stays.every(({ live }) => live))
    t.match(await site.postern('session', 'end', '--all'), /^\d+ sessions? ended$/)
    await endsWithin(stays, BOUND)
    t.equal(await site.postern('session', 'list'), 'nobody is logged in')
  })
})
