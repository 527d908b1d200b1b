// The daemon decides what a stream listens to, one id or two, and where it begins: nginx against scripted answers.

import t from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { ask, V1 } from './ask.ts'
import { type Answer, kickId, open, PASS, startDaemon } from './daemon.ts'
import { eventSource, type Stream } from './listen.ts'

const EPOCH = 'Thu, 01 Jan 1970 00:00:00 GMT'

const lastId = ({ text }: Stream): string => [...text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? ''
const said = ({ text }: Stream): string[] =>
  [...text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)

const listenTo = (ids: string, resume?: string): Answer => ({
  status: 204,
  headers: {
    ...PASS.headers,
    'X-Auth-Channels': ids,
    ...(resume !== undefined && { 'X-Auth-Resume': resume }),
  },
})

void t.test('channel ids and message ids', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket })
  const publish = (channel: string, body: string) =>
    ask(nginx.port, `${V1}/pub/${channel}`, { body })
  const poll = (headers: Record<string, string> = {}, query = '') =>
    ask(nginx.port, `${V1}/sub/x${query}`, { headers })
  const hears = (stream: Stream, ...messages: string[]) =>
    until(`${messages.join()} is heard`, () => said(stream).length >= messages.length)
  t.beforeEach(() => {
    daemon.ended.length = 0
  })

  await t.test('one id is an ordinary subscription, two are one that can be ended', async (t) => {
    for (const [ids, form] of [
      ['one', /^\d{10}:0$/],
      [`two,${kickId()}`, /^\d{10}:\[0\],-$/],
    ] as const) {
      daemon.answer = () => listenTo(ids)
      await publish(ids.split(',')[0] ?? '', 'first')
      const stream = await eventSource(t, nginx.port, 'x')
      await hears(stream, 'first')
      t.match(lastId(stream), form)
      const from = lastId(stream)
      daemon.answer = () => listenTo(ids, from)
      await publish(ids.split(',')[0] ?? '', 'second')
      const next = await eventSource(t, nginx.port, 'x')
      await hears(next, 'second')
      t.same(said(next), ['second'], 'and goes on where the daemon says')
      for (const { close } of [stream, next]) close()
    }
  })

  await t.test('whatever else the daemon names is refused', async (t) => {
    const names = ['', ',', 'a,', ',a', 'a,b', 'a b', 'A', 'a'.repeat(65), 'a,kick-x', kickId()]
    for (const odd of ['%,b', '%x', '%,%']) names.push(`a,${odd.replaceAll('%', kickId)}`)
    names.push(`${kickId()},a`, `a, ${kickId()}`)
    for (const ids of names) {
      daemon.answer = () => listenTo(ids)
      t.match(await poll(), { status: 503, headers: { 'retry-after': '2' } }, ids)
    }
  })

  await t.test('no id of a client counts that the daemon did not name', async (t) => {
    for (const message of ['1', '2']) await publish('vetted', message)
    const ids = `vetted,${kickId()}`
    daemon.answer = () => listenTo(ids)
    const first = await poll()
    t.equal(first.body, '1')
    const from = {
      'If-Modified-Since': String(first.headers['last-modified']),
      'If-None-Match': String(first.headers.etag),
    }
    const seconds = Date.parse(from['If-Modified-Since']) / 1000
    const id = `${seconds}:${from['If-None-Match']}`
    const doors: [what: string, headers: Record<string, string>, query?: string][] = [
      ['Last-Event-ID', { 'Last-Event-ID': id }],
      ['a query', {}, `?last_event_id=${encodeURIComponent(id)}`],
      ['a poll', from],
      ['half of one', { 'If-Modified-Since': from['If-Modified-Since'] }],
      ['the other half', { 'If-None-Match': from['If-None-Match'] }],
      ['a whole id as ETag', { 'If-None-Match': id, 'If-Modified-Since': EPOCH }],
    ]
    for (const [what, headers, query] of doors) {
      t.match(await poll(headers, query), { status: 200, body: '1' }, what)
    }
    const odd = { 'If-None-Match': id, 'If-Modified-Since': from['If-Modified-Since'] }
    for (const headers of [odd, { 'If-None-Match': '0:-1' }]) {
      const reply = await poll(headers)
      t.match(reply, { status: 400, headers: { 'content-type': 'application/json' } })
      t.match(JSON.parse(reply.body), { success: false, error: 'Bad request' })
    }

    daemon.answer = () => listenTo(ids, id)
    for (const [what, headers, query] of doors.filter(([name]) => !name.includes('half'))) {
      t.match(await poll(headers, query), { status: 200, body: '2' }, `${what}, vetted`)
    }
  })

  await t.test('what a poll gets that was not vetted leads it on', async (t) => {
    const ids = `leads,${kickId()}`
    daemon.answer = () => listenTo(ids)
    const stale = { 'If-Modified-Since': new Date(1e12).toUTCString(), 'If-None-Match': '[0],-' }
    await publish('leads', '1')
    const reply = await poll(stale)
    t.match(reply, {
      body: '1',
      headers: { 'last-modified': EPOCH, etag: /^\d{10}:\[0\],-$/, 'cache-control': 'no-store' },
    })
    daemon.answer = () => open('leads', kickId(), String(reply.headers.etag))
    await publish('leads', '2')
    const headers = { 'If-Modified-Since': EPOCH, 'If-None-Match': String(reply.headers.etag) }
    t.match(await poll(headers), { body: '2' })
  })
  t.notMatch(nginx.errorLog(), /exited on signal/)
})
