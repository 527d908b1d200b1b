// Which connection a request came over: only what nginx says of it, and nothing that several people share.

import t from 'tap'

import { answerFirst, isFollowed, readConnection } from '../../src/http/connection.ts'
import { readHeaders } from '../../src/http/headers.ts'
import type { Request } from '../../src/http/request.ts'

const headers = (text?: string) =>
  readHeaders(text === undefined ? [] : ['X-Original-Connection', text])

void t.test('a connection is its peer and its listener', (t) => {
  const cases: [string, string][] = [
    ['HTTP/1.1 192.0.2.1 40000 192.0.2.2 443 192.0.2.1 40000', '192.0.2.1 40000 192.0.2.2 443'],
    ['HTTP/1.0 ::1 1 ::1 80 ::1 1', '::1 1 ::1 80'],
    ['HTTP/2.0 ::ffff:192.0.2.1 1 ::1 80 ::ffff:192.0.2.1 1', '::ffff:192.0.2.1 1 ::1 80'],
    ['HTTP/2.0 fe80::1 1 fe80::2 80 fe80::1 1', 'fe80::1 1 fe80::2 80'],
    // Of one request at a time only: the next one comes over another connection.
    ['HTTP/1.1 192.0.2.9 40000 192.0.2.2 443 198.51.100.1', '192.0.2.9 40000 192.0.2.2 443'],
  ]
  for (const [text, connection] of cases) {
    t.same(readConnection(headers(text)), { connection }, text)
    t.ok(isFollowed(headers(text)))
  }
  t.end()
})

void t.test('whatever is none to cut has a word', (t) => {
  const cases: [string | undefined, string][] = [
    [undefined, 'old_nginx'],
    ['', 'old_nginx'],
    ['HTTP/1.1 unix:  unix:/run/x.sock  unix:', 'unix'],
    ['HTTP/2.0 unix:  unix:/run/x.sock  198.51.100.1', 'unix'],
    ['HTTP/3.0 192.0.2.1 40000 192.0.2.2 443 192.0.2.1', 'http3'],
    ['HTTP/2.0 192.0.2.9 40000 192.0.2.2 443 198.51.100.1', 'shared'],
    // Who is on the proxy's own machine: its address, and no port, as realip leaves it.
    ['HTTP/2.0 192.0.2.9 40000 192.0.2.2 443 192.0.2.9', 'shared'],
    ['HTTP/2.0 192.0.2.9 40000 192.0.2.2 443 192.0.2.9 40001', 'shared'],
    ['HTTP/2.0', 'malformed'],
    ['HTTP/1.1', 'malformed'],
    ['HTTP/1.1 192.0.2.1 40000 192.0.2.2', 'malformed'],
    ['HTTP/1.1 192.0.2.1  40000 192.0.2.2 443', 'malformed'],
    ['HTTP/1.1 192.0.2.1 40000 192.0.2.2 x 192.0.2.1', 'malformed'],
    ['HTTP/1.1 192.0.2.1 040000 192.0.2.2 443 192.0.2.1', 'malformed'],
    ['HTTP/1.1 fe80::1%eth0 40000 fe80::2 443 fe80::1%eth0', 'malformed'],
  ]
  for (const [text, why] of cases) t.same(readConnection(headers(text)), { why }, String(text))
  t.notOk(isFollowed(headers()))
  t.notOk(isFollowed(headers('')))
  t.end()
})

void t.test('an order is held until it is answered, or has failed', async (t) => {
  const said: string[] = []
  const hold = (connection: string) => {
    said.push(`hold ${connection}`)
    return () => void said.push('release')
  }
  const request = (text?: string) => ({ headers: headers(text) }) as Request
  const reply = { status: 200, headers: [] }
  const good = answerFirst(hold, async () => reply)
  t.same(await good(request()), reply)
  t.same(said, [])
  const held = await good(request('HTTP/2.0 ::1 1 ::1 80 ::1 1'))
  t.same(said, ['hold ::1 1 ::1 80'])
  held.afterwards?.()
  t.same(said, ['hold ::1 1 ::1 80', 'release'])
  const bad = answerFirst(hold, () => Promise.reject(new Error('no store')))
  await t.rejects(bad(request('HTTP/2.0 ::1 1 ::1 80 ::1 1')), /no store/)
  t.equal(said.at(-1), 'release')
})
