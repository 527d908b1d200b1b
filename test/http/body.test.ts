// Bodies: bounded on a real socket, and parsed strictly.

import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'

import {
  Aborted,
  isTextBody,
  MAX_BODY,
  parseFormBody,
  parseJsonBody,
  readBody,
  TooLarge,
} from '../../src/http/body.ts'
import { readHeaders } from '../../src/http/headers.ts'
import { openWire } from '../fixtures/daemon.ts'

const typed = (type: string) => readHeaders(['Content-Type', type])
const FORM = typed('application/x-www-form-urlencoded')
const JSON_BODY = typed('application/json')

void t.test('the bytes that come are counted, whatever was announced', async (t) => {
  const outcomes: unknown[] = []
  const options = { optimizeEmptyRequests: true } // as our server has it
  const server = createServer(options, (message: IncomingMessage, response) => {
    readBody(message).then(
      (body) => {
        outcomes.push(body.length)
        response.writeHead(200, { 'Content-Length': 0, Connection: 'close' }).end()
      },
      (error: unknown) => {
        outcomes.push(error instanceof TooLarge ? undefined : error)
        response.writeHead(413, { 'Content-Length': 0, Connection: 'close' }).end()
      },
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const chunk = (size: number): string => `${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`
  const post = 'POST / HTTP/1.1\r\nHost: x\r\n'
  const rows: [what: string, bytes: string, due: number | undefined][] = [
    ['none, as curl -X POST says it', `${post}\r\n`, 0],
    ['empty', `${post}Content-Length: 0\r\n\r\n`, 0],
    ['just fits', `${post}Content-Length: ${MAX_BODY}\r\n\r\n${'x'.repeat(MAX_BODY)}`, MAX_BODY],
    [
      'one more',
      `${post}Content-Length: ${MAX_BODY + 1}\r\n\r\n${'x'.repeat(MAX_BODY + 1)}`,
      undefined,
    ],
    ['a megabyte', `${post}Content-Length: 1048576\r\n\r\n${'x'.repeat(1_048_576)}`, undefined],
    [
      'in chunks that fit',
      `${post}Transfer-Encoding: chunked\r\n\r\n${chunk(4000)}${chunk(4000)}0\r\n\r\n`,
      8000,
    ],
    [
      'in chunks that do not',
      `${post}Transfer-Encoding: chunked\r\n\r\n${chunk(4000)}${chunk(4000)}${chunk(4000)}`,
      undefined,
    ],
  ]
  for (const [what, bytes, due] of rows) {
    const wire = openWire(port)
    wire.write(bytes)
    await wire.answers(1)
    wire.destroy()
    t.equal(outcomes.pop(), due, what)
  }
  const wire = openWire(port)
  wire.write(`${post}Content-Length: 10\r\n\r\nhalf`)
  wire.end()
  await wire.closed()
  t.ok(outcomes.pop() instanceof Aborted, 'half a body is nobody’s')
})

void t.test('JSON is read only where it is said to be JSON, in UTF-8', (t) => {
  const body = Buffer.from('{"a":"ü"}')
  for (const type of [
    'application/json',
    'Application/JSON ; charset=UTF-8',
    'application/json; charset="utf-8"',
    'application/json;x=1',
  ]) {
    t.same(parseJsonBody(typed(type), body), { a: 'ü' }, type)
  }
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonp',
    'text/json',
    '',
    'application/json; charset=utf-16',
    'application/json; charset=latin1',
    '\u00a0application/json',
    'application/json\u00a0; charset=utf-8',
    'json',
    'text/plain; application/json',
    'application/problem+json',
  ]) {
    t.equal(parseJsonBody(typed(type), body), undefined, type)
  }
  t.equal(parseJsonBody(readHeaders([]), body), undefined)
  const twice = readHeaders(['Content-Type', 'application/json', 'content-type', 'text/plain'])
  t.equal(parseJsonBody(twice, body), undefined)
  for (const text of ['[]', '1', 'null', '{"a":1,"a":2}', '\ufeff{}', '{', '']) {
    t.equal(parseJsonBody(JSON_BODY, Buffer.from(text)), undefined, text)
  }
  t.end()
})

void t.test('a form is read as browsers write it', (t) => {
  const rows: Record<string, Record<string, string>> = {
    'a=1&b=2': { a: '1', b: '2' },
    'a=1%2B1+%26': { a: '1+1 &' },
    'a=x=y=': { a: 'x=y=' },
    'a&b=': { a: '', b: '' },
    '&&a=1&': { a: '1' },
    'a=%C3%BC': { a: 'ü' },
    'a=ü': { a: 'ü' },
    'a+b=1': { 'a b': '1' },
    '': {},
    '__proto__=1': Object.fromEntries([['__proto__', '1']]),
  }
  for (const [text, fields] of Object.entries(rows)) {
    t.strictSame(parseFormBody(FORM, Buffer.from(text)), fields, text)
  }
  t.end()
})

void t.test('a form with a field twice, or that is no text, is none', (t) => {
  for (const text of ['a=1&a=1', 'a=1&%61=2', 'a&a', '=1&=2', 'a=%', 'a=%zz', 'a=%ff', '%=1']) {
    t.equal(parseFormBody(FORM, Buffer.from(text)), undefined, text)
  }
  t.equal(parseFormBody(FORM, Buffer.from('a=\xff', 'latin1')), undefined)
  for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x', '']) {
    t.equal(parseFormBody(typed(type), Buffer.from('a=1')), undefined, type)
  }
  const latin = typed('application/x-www-form-urlencoded; charset=iso-8859-1')
  t.equal(parseFormBody(latin, Buffer.from('a=1')), undefined)
  t.end()
})

void t.test('text is what a foreign form can send', (t) => {
  t.ok(isTextBody(typed('text/plain')))
  t.ok(isTextBody(typed('TEXT/plain; charset=utf-8')))
  t.notOk(isTextBody(JSON_BODY))
  t.notOk(isTextBody(readHeaders([])))
  t.end()
})
