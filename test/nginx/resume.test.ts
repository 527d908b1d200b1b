// Where a client goes on from, with the real daemon: an honest one loses and repeats nothing, whatever happened to the
// channel meanwhile, and no id of anybody's kills a worker of nginx. POSTERN_RESUMES=10000 for the long run.

import { readFileSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { type Nginx, nginxMissing } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { ask, V1 } from './ask.ts'
import { eventSource, longPoll, settle, type Stream } from './listen.ts'
import { bearer, openSite, type Site } from './live.ts'
import { reloadWhole, workersOf } from './several.ts'

const RESUMES = Number(process.env['POSTERN_RESUMES'] ?? 1000)
const OPEN = 60 // at one moment, so that each meets others with its id

const LIFE = 2000 // milliseconds that a message is kept, once it is shortened

type Headers = Record<string, string>

const WAYS: Readonly<Record<string, Headers>> = {
  EventSource: { Accept: 'text/event-stream' },
  WebSocket: {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  },
  'long-poll': {},
  chunked: { TE: 'chunked' },
  multipart: { Accept: 'multipart/mixed' },
  h2c: { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAMAAABk' },
}

const dateOf = (seconds: number): string => new Date(seconds * 1000).toUTCString()

/** By each door: what stands in the query, and the headers. */
const DOORS: Readonly<Record<string, (id: string, date: string) => [string, Headers]>> = {
  query: (id) => [`?last_event_id=${encodeURIComponent(id)}`, {}],
  'bare query': (id) => [`?last_event_id=${id.replaceAll(/[^!-~]|[#]/g, '')}`, {}],
  'Last-Event-ID': (id) => ['', { 'Last-Event-ID': id }],
  'If-None-Match': (id) => ['', { 'If-None-Match': id }],
  'If-Modified-Since': (id) => ['', { 'If-Modified-Since': id }],
  both: (id, date) => ['', { 'If-Modified-Since': date, 'If-None-Match': id }],
  epoch: (id) => ['', { 'If-Modified-Since': dateOf(0), 'If-None-Match': id }],
  all: (id, date) => [
    `?last_event_id=${encodeURIComponent(id)}`,
    { 'If-Modified-Since': date, 'If-None-Match': id, 'Last-Event-ID': id },
  ],
}

const ALPHABET = '0123456789:[],-|"W/ '
const pick = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)] as T
const chance = (limit: number): number => Math.floor(Math.random() * limit)
const junk = (): string =>
  Array.from({ length: chance(20) }, () => pick(ALPHABET.split(''))).join('')

const hostile = (now: number): string =>
  pick([
    () => pick(['0:-1', '0:32768', '0:[-1],-', '-1:0', '0:0', '0:[0],-', '-2:[1],-', 'undefined']),
    () =>
      pick(['[0],-', '[1],-', '0', '-', '[-1],-', '-,[0]', '[0],5', '[32768],-', '"[0],-"', '']),
    () => `${now + pick([-20_000, -100, -1, 0, 1, 100])}:[${chance(4)}],-`,
    () =>
      `${now - chance(3)}:${pick(['0', '[0]', '-,[0]', '0,[0]', '[0],0', '[40000],-', '[[[', ''])}`,
    () => `${chance(2 ** 40)}:[${chance(70_000)}],-`,
    () => dateOf(now - chance(30_000)),
    () => pick(['9'.repeat(400), '1:'.repeat(200), `${now}:[0],-,${'-,'.repeat(100)}`]),
    junk,
  ])()

const start = (port: number, path: string, headers: Headers): Socket => {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined).resume()
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.write(`GET ${path} HTTP/1.1\r\nHost: pbx\r\n${lines.join('')}\r\n`)
  return socket
}

/** A hostile user's whole evening. */
const attack = async (
  { nginx }: Site,
  token: string,
  channels: readonly string[],
  count: number,
) => {
  const open: Socket[] = []
  for (let at = 0; at < count; at += 2) {
    const now = Math.floor(Date.now() / 1000)
    const door = pick(Object.values(DOORS))
    const [query, from] = door(hostile(now), pick([dateOf(now), dateOf(now - 100), '', 'x']))
    const headers = { ...bearer(token), ...pick(Object.values(WAYS)), ...from }
    const path = `${V1}/sub/${pick(channels)}${query}`
    // Twice: of two with one id the second is the one that kills.
    for (let twice = 0; twice < 2; twice++) open.push(start(nginx.port, path, headers))
    await delay(6)
    while (open.length > OPEN) open.shift()?.destroy()
  }
  await delay(300)
  for (const socket of open) socket.destroy()
}

const noneDied = (
  t: Test,
  now: readonly number[],
  due: readonly number[],
  errors: string,
): void => {
  t.same(now, due, 'the workers are the same')
  t.notMatch(errors, /exited on signal/)
}

const shorten = ({ folder }: Nginx): void => {
  const file = join(folder, 'postern', 'postern-http.conf')
  const text = readFileSync(file, 'utf8')
  writeFileSync(file, text.replace('18000s', `${LIFE / 1000}s`))
}

const said = ({ text }: Stream): string[] =>
  [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)
const lastId = ({ text }: Stream): string => [...text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? ''
const pollFrom = ({ headers }: { headers: Headers | NodeJS.Dict<string | string[]> }): Headers => ({
  'If-Modified-Since': String(headers['last-modified']),
  'If-None-Match': String(headers['etag']),
})

void t.test('resumes', { skip: nginxMissing() }, async (t) => {
  const site = await openSite(t, {
    sections: {
      'roles.user': 'grants = ["subscribe:*"]',
      streams: 'per_session = 5000\nstreams_per_session = 5000', // one session is everybody here
    },
  })
  const { nginx, publish } = site
  const workers = await workersOf(nginx)
  const { access } = await site.enter()
  /** Streams of one session share an id, as tabs do. */
  const tab = (channel: string, from: Headers = {}) =>
    eventSource(t, nginx.port, channel, { ...bearer(access), ...from })
  const poll = (channel: string, from: Headers = {}) =>
    ask(nginx.port, `${V1}/sub/${channel}`, { headers: { ...bearer(access), ...from } })

  await t.test(`${RESUMES} hostile ids by every door kill no worker`, async (t) => {
    for (let message = 0; message < 3; message++) await publish('room-kept', 'x')
    await publish('users-state', '{}')
    await attack(site, access, ['room-void', 'room-kept', 'users-state', 'room-other'], RESUMES)
    noneDied(t, await workersOf(nginx), workers, nginx.errorLog())
    const hears = await tab('room-void')
    await until('it is heard', async () => {
      await publish('room-void', 'still there')
      return said(hears).includes('still there')
    })
    hears.close()
  })

  await t.test('a reload amid resumes by ids that were good before kills none', async (t) => {
    for (let round = 0; round < 3; round++) {
      const channel = `room-amid-${round}`
      await publish(channel, 'x')
      const from = pollFrom(await poll(channel))
      const seconds = Date.parse(String(from['If-Modified-Since'])) / 1000
      const id = `${seconds}:${from['If-None-Match']}`
      const ways = [from, { Accept: 'text/event-stream', 'Last-Event-ID': id }]
      const open: Socket[] = []
      for (let at = 0; at < 600; at++) {
        if (at === 100) nginx.reload()
        const headers = { ...bearer(access), ...ways[at % 2] }
        open.push(start(nginx.port, `${V1}/sub/${channel}`, headers))
        await delay(2)
        if (open.length > OPEN) open.shift()?.destroy()
      }
      for (const socket of open) socket.destroy()
    }
    t.notMatch(nginx.errorLog(), /exited on signal/)
  })

  await t.test('a long-poll drains on over reloads: nothing lost, nothing twice', async (t) => {
    const channel = 'room-drain'
    const heard: string[] = []
    let from: Headers = {}
    const hear = async () => {
      const reply = await poll(channel, from)
      t.equal(reply.status, 200)
      heard.push(reply.body)
      from = pollFrom(reply)
    }
    let next = 1
    for (let reload = 0; reload < 3; reload++) {
      for (let count = 0; count < 3; count++) await publish(channel, String(next++))
      for (let count = 0; count < 3; count++) await hear()
      await reloadWhole(nginx)
      // It waits: nothing is kept, and what it heard last is gone.
      const waiting = hear()
      await settle()
      await publish(channel, String(next++))
      await waiting
      await publish(channel, String(next++))
      await hear()
    }
    t.same(
      heard,
      Array.from({ length: next - 1 }, (_, at) => String(at + 1)),
    )
    noneDied(t, await workersOf(nginx), await workersOf(nginx), nginx.errorLog())
  })

  await t.test('of what JavaScript says for nothing, nothing is made', async () => {
    await publish('room-words', 'kept')
    for (const word of ['undefined', 'null']) {
      const tabs = [
        await tab('room-words', { 'Last-Event-ID': word }),
        await tab(`room-words?last_event_id=${word}`),
        await tab('room-words', { 'If-None-Match': word, 'If-Modified-Since': word }),
      ]
      await until(`${word}: all hear what is kept`, () =>
        tabs.every((stream) => said(stream).includes('kept')),
      )
      for (const { close } of tabs) close()
    }
  })

  await t.test(
    'an id whose message is gone, by tabs that come back one after another',
    async (t) => {
      const lose: readonly [how: string, lost: () => Promise<void>][] = [
        ['a reload', () => reloadWhole(nginx)],
        ['expiry', () => delay(LIFE + 1500)],
      ]
      shorten(nginx)
      await reloadWhole(nginx)
      for (const [how, lost] of lose) {
        const channel = `room-gone-${how.at(-1)}`
        await publish(channel, 'before')
        const first = await tab(channel)
        await until('it is heard', () => said(first).length === 1)
        const polled = await poll(channel)
        first.close()
        await lost()
        const due = await workersOf(nginx)
        const tabs: Stream[] = []
        for (let at = 0; at < 4; at++) {
          const query = `${channel}?last_event_id=${encodeURIComponent(lastId(first))}`
          tabs.push(await tab(channel, { 'Last-Event-ID': lastId(first) }), await tab(query))
          tabs.push(
            await longPoll(t, nginx.port, channel, { ...bearer(access), ...pollFrom(polled) }),
          )
          await delay(50)
        }
        await settle()
        await publish(channel, 'after')
        await until(`${how}: all hear what comes next`, () =>
          tabs.every(({ text }) => text.includes('after')),
        )
        t.notOk(tabs.some(({ text }) => text.includes('before')))
        for (const { close } of tabs) close()
        noneDied(t, await workersOf(nginx), due, nginx.errorLog())
      }
    },
  )
})
