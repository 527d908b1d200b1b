// Header lines: which came once, which twice.

import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import t, { type Test } from 'tap'

import { readHeaders, trimBlanks } from '../../src/http/headers.ts'

void t.test('names know no case, and a line that came once has its value', (t) => {
  const headers = readHeaders(['Host', 'x', 'AUTHORIZATION', 'Bearer a'])
  t.equal(headers.get('authorization'), 'Bearer a')
  t.equal(headers.get('cookie'), undefined)
  t.notOk(headers.isRepeated('host'))
  t.end()
})

void t.test('a line that came twice has no value, also where both are equal', (t) => {
  for (const [one, two] of [
    ['a', 'b'],
    ['a', 'a'],
    ['', ''],
  ] as const) {
    const headers = readHeaders(['Authorization', one, 'authorization', two])
    t.equal(headers.get('authorization'), undefined)
    t.ok(headers.isRepeated('authorization'))
  }
  const thrice = readHeaders(['x-a', '1', 'X-A', '2', 'x-A', '3', 'x-b', '1', 'x-b', '2'])
  t.ok(thrice.isRepeated('x-a') && thrice.isRepeated('x-b'))
  t.end()
})

void t.test('a Cookie line may come in pieces', (t) => {
  const headers = readHeaders(['Cookie', 'a=1', 'cookie', 'b=2', 'Cookie', 'c=3'])
  t.equal(headers.get('cookie'), 'a=1; b=2; c=3')
  t.notOk(headers.isRepeated('cookie'))
  t.end()
})

void t.test('names of the prototype are names', (t) => {
  const headers = readHeaders(['__proto__', 'x', 'constructor', 'y'])
  t.equal(headers.get('__proto__'), 'x')
  t.equal(headers.get('constructor'), 'y')
  t.equal(headers.get('toString'), undefined)
  t.equal(headers.get('hasOwnProperty'), undefined)
  t.end()
})

void t.test('spaces and tabs around a text go, and nothing else does', (t) => {
  t.equal(trimBlanks(' \t a b\t '), 'a b')
  t.equal(trimBlanks(' \t '), '')
  t.equal(trimBlanks(''), '')
  t.equal(trimBlanks('\u00a0a\u00a0'), '\u00a0a\u00a0')
  t.end()
})

/** As Node does it: a server that answers with nothing but what it was sent. */
const joinedByNode = async (t: Test, lines: readonly string[]): Promise<IncomingMessage> => {
  const { promise, resolve } = Promise.withResolvers<IncomingMessage>()
  const server = createServer((message, response) => {
    resolve(message)
    response.end()
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.write(`GET / HTTP/1.1\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`)
  return promise
}

void t.test(
  'what Node has joined is taken where nothing came twice, and says the same',
  async (t) => {
    const rows: [lines: string[], names: string[]][] = [
      [['Host: x', 'X-A: 1', 'AUTHORIZATION: Bearer a', 'Cookie: a=1'], []],
      [['Host: x', 'constructor: y', 'toString: z', 'Set-Cookie-2: s'], []],
      [['Host: x', '__proto__: y'], []],
      [['Host: x', 'Authorization: a', 'authorization: b'], ['authorization']],
      [['Host: x', 'X-A: 1', 'x-a: 1'], ['x-a']],
      [['Host: x', 'Cookie: a=1', 'Cookie: b=2'], []],
      [['Host: x', 'User-Agent: a', 'User-Agent: b'], ['user-agent']],
      [['Host: x', 'Host: y'], ['host']],
    ]
    for (const [lines, twice] of rows) {
      const { rawHeaders, headers } = await joinedByNode(t, lines)
      const [fast, slow] = [readHeaders(rawHeaders, headers), readHeaders(rawHeaders)]
      const names = [...lines.map((line) => line.split(':')[0]?.toLowerCase() ?? ''), 'origin']
      for (const name of [
        ...names,
        'constructor',
        'tostring',
        'toString',
        '__proto__',
        'valueOf',
      ]) {
        t.equal(fast.get(name), slow.get(name), `${lines.join()}: ${name}`)
        t.equal(fast.isRepeated(name), slow.isRepeated(name))
        t.equal(fast.isRepeated(name), twice.includes(name))
      }
    }
  },
)
