// What is live is remembered beside the sockets, and outlives the daemon, its store and its keys: each stream is judged
// anew by what the store knows today. Whose right still stands listens on.

import { copyFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { nginxMissing } from '../fixtures/nginx.ts'
import { bearer, type Tokens, until } from '../fixtures/postern.ts'
import { leaveStreams } from '../store/sessions.ts'
import { ask, V1 } from './ask.ts'
import { endsWithin, openSite, type Site, withToken } from './live.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'
import { reloadWhole, workersOf } from './several.ts'

const BOUND = 500 // milliseconds after the daemon is ready
const SAID_WITHIN = 5000 // milliseconds

const skip = nginxMissing()

const listOf = ({ place }: Site): string => place.at('control.streams')

const open = async (t: Test, { nginx }: Site, channel: string): Promise<Stream[]> => [
  await eventSource(t, nginx.port, channel),
  await webSocket(t, nginx.port, channel),
]

const metric = async ({ place }: Site, name: string): Promise<number> => {
  const { body } = await place.operator('/metrics')
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(body)?.[1])
}

const allLive = (streams: readonly Stream[]): boolean => streams.every(({ live }) => live)

void t.test('streams are judged anew when the store is another', { skip }, async (t) => {
  const site = await openSite(t)
  const { place, enter, post } = site
  const state = (name: string): string => place.at('state', name)

  await t.test('kill -9 of the daemon ends nobody, and loses nobody', async (t) => {
    const mine = await enter('201')
    const streams = await open(t, site, withToken('room-kill', mine.access))
    t.equal(statSync(listOf(site)).mode & 0o777, 0o600)
    for (let round = 0; round < 3; round++) {
      await site.kill()
      await site.start()
    }
    t.ok(allLive(streams))
    const ended = endsWithin(streams, BOUND)
    t.equal((await post('/auth/logout', mine.access)).status, 200)
    t.ok((await ended) < BOUND)
  })

  await t.test('a restore ends whom the backup does not know, and no other', async (t) => {
    const early = await enter('201')
    await site.postern('store', 'backup', place.at('backup.db'))
    const late = await enter('202')
    const [stays, goes] = [
      await open(t, site, withToken('room-early', early.access)),
      await open(t, site, withToken('room-late', late.access)),
    ]
    await site.kill()
    await site.postern('store', 'restore', '--keep-sessions', place.at('backup.db'))
    await site.start()
    t.ok((await endsWithin(goes, BOUND)) < BOUND)
    t.ok(allLive(stays))
    t.match(
      (await place.operator('/metrics')).body,
      /^postern_kicks_total\{cause="session_ended",result="ended",means="kick"\} [2-9]$/m,
    )

    await site.kill()
    await site.postern('store', 'restore', place.at('backup.db'))
    await site.start()
    t.ok((await endsWithin(stays, BOUND)) < BOUND, 'without it every session ends')
  })

  await t.test('a fresh state folder knows nobody', async (t) => {
    await delay(1100) // what is issued in the second of a restore is refused with all before it
    const streams = await open(t, site, withToken('room-fresh', (await enter()).access))
    await site.kill()
    rmSync(place.at('state'), { recursive: true })
    await site.start()
    t.ok((await endsWithin(streams, BOUND)) < BOUND)
    t.equal(await metric(site, 'postern_nginx_reload_due'), 0)
  })

  await t.test('a key that is removed ends what it admitted, by whatever token', async (t) => {
    const admitted = async ({ access }: Tokens, room: string): Promise<Stream[]> => {
      const headers = { ...bearer(access), 'Content-Type': 'application/json' }
      const body = JSON.stringify({ action: 'subscribe', resource: room, ttl: 60 })
      const { ticket } = JSON.parse(
        (await place.ask(`${V1}/auth/ticket`, { headers, body })).body,
      ) as { ticket: string }
      const cookie = { Cookie: `postern=${access}`, 'Sec-Fetch-Site': 'same-origin' }
      return [
        ...(await open(t, site, withToken(room, access))),
        await eventSource(t, site.nginx.port, `${room}?ticket=${ticket}`),
        await eventSource(t, site.nginx.port, room, cookie),
      ]
    }
    const { keys } = JSON.parse(readFileSync(state('keys.json'), 'utf8')) as {
      keys: { kid: string }[]
    }
    const old = String(keys[0]?.kid)
    const [one, two] = [await enter('201'), await enter('202')]
    const running = await admitted(one, 'room-running')
    await site.postern('key', 'add')
    const stays = await admitted(await enter('201'), 'room-running')
    const ended = endsWithin(running, BOUND)
    await site.postern('key', 'remove', old, '--yes')
    await ended
    t.ok(allLive(stays))

    // The same while the daemon is away; the key is found again in a backup first.
    const renewed = JSON.parse(readFileSync(state('keys.json'), 'utf8')) as { keys: object[] }
    const both = { keys: [...keys, ...renewed.keys] }
    writeFileSync(state('keys.json'), JSON.stringify(both), { mode: 0o600 })
    await site.control('/reload')
    const away = await admitted(two, 'room-away')
    await site.kill()
    writeFileSync(state('keys.json'), JSON.stringify(renewed), { mode: 0o600 })
    await site.start()
    t.ok((await endsWithin(away, BOUND)) < BOUND)
    t.ok(allLive(stays))
    for (const stream of stays) stream.close()
  })

  await t.test('what the version before left in the store is taken over, once', async (t) => {
    const [mine, other] = [await enter('201'), await enter('202')]
    const goes = await open(t, site, withToken('room-upgrade', mine.access))
    const stays = await open(t, site, withToken('room-upgrade', other.access))
    await site.kill()
    const lines = readFileSync(listOf(site), 'utf8').trim().split('\n')
    const rows = lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ kick, resource }) => kick !== undefined && resource === 'room-upgrade')
      .map(({ kid: _kid, worker: _worker, number: _number, action: _action, ...row }) => row)
    t.equal(rows.length, 4)
    rmSync(listOf(site))
    using db = new DatabaseSync(state('store.db'))
    leaveStreams(db, rows as unknown as Parameters<typeof leaveStreams>[1])
    await site.start()
    t.ok(allLive([...goes, ...stays]))
    t.equal(db.prepare('SELECT count(*) AS n FROM subscriptions').get()?.['n'], 0)
    t.equal(await metric(site, 'postern_nginx_reload_due'), 0, 'nothing was lost')
    await site.kill()
    await site.start()
    const ended = endsWithin(goes, BOUND)
    t.equal((await post('/auth/logout', mine.access)).status, 200)
    t.ok((await ended) < BOUND)
    t.ok(allLive(stays))
    for (const stream of stays) stream.close()
  })
})

void t.test('a list that was lost is said, until nginx is reloaded', { skip }, async (t) => {
  const processes = join(t.testdir(), 'cgroup.procs')
  const site = await openSite(t, { streams: `processes = "${processes}"` })
  const { nginx } = site
  const list = async (): Promise<void> => {
    const pids = [nginx.pid, ...(await workersOf(nginx))]
    writeFileSync(processes, pids.map((pid) => `${pid}\n`).join(''))
  }
  await list()
  const timer = setInterval(() => void list().catch(() => undefined), 100)
  t.teardown(() => clearInterval(timer))

  const losses = {
    missing: () => rmSync(listOf(site)),
    damaged: () => {
      const text = readFileSync(listOf(site), 'utf8')
      writeFileSync(listOf(site), text.replace('"kick":"', '"kick:'))
    },
  }
  for (const [loss, lose] of Object.entries(losses)) {
    const { access } = await site.enter()
    const streams = await open(t, site, withToken('room-lost', access))
    await site.kill()
    lose()
    await site.start()
    const readyAt = performance.now()
    await until('the metric says it', async () => {
      return (await metric(site, 'postern_nginx_reload_due')) === 1
    })
    const said = site
      .daemon()
      .log()
      .filter(({ msg }) => /list of streams was lost/.test(String(msg)))
    t.match(said, [{ level: 50, loss, msg: /systemctl reload nginx/ }])
    t.ok(performance.now() - readyAt < SAID_WITHIN)
    const { body } = await ask(0, '/ready', { socket: site.place.at('control.sock') })
    t.match(JSON.parse(body), { nginx: { reloadDue: true, listLost: true } }, 'doctor is told')

    await site.kill()
    await site.start()
    t.equal(await metric(site, 'postern_nginx_reload_due'), 1, 'also after another start')
    await reloadWhole(nginx)
    await Promise.all(streams.map(({ ended }) => ended))
    await until('it is whole', async () => (await metric(site, 'postern_nginx_reload_due')) === 0)
  }

  await site.kill()
  rmSync(listOf(site))
  await site.start()
  t.equal(await metric(site, 'postern_nginx_reload_due'), 0, 'nginx holds none')

  const { access } = await site.enter()
  const streams = await open(t, site, withToken('room-torn', access))
  rmSync(listOf(site))
  await until('it is written anew', () => existsSync(listOf(site)))
  await site.kill()
  copyFileSync(listOf(site), `${listOf(site)}.copy`)
  writeFileSync(listOf(site), `${readFileSync(listOf(site), 'utf8')}{"kick":"kick-to`)
  await site.start()
  t.equal(await metric(site, 'postern_nginx_reload_due'), 0, 'a kill can tear the last line')
  const ended = endsWithin(streams, BOUND)
  await site.post('/auth/logout', access)
  await ended
})
