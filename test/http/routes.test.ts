// The table of routes: one spelling of every path. Without a server.

import t from 'tap'

import type { Reply } from '../../src/http/reply.ts'
import type { Handler } from '../../src/http/request.ts'
import { createRouter, type Match, type Route } from '../../src/http/routes.ts'
import { requestOf } from '../fixtures/daemon.ts'

const own = (error: string) => ({ own: error })
const says =
  (body: string): Handler =>
  async () => ({ status: 200, headers: [], body })
const row = (name: string, method: Route['method'], path: string): Route => ({
  name,
  method,
  path,
  handler: says(name),
  shape: own,
})
const router = createRouter([
  row('read', 'GET', '/a/b'),
  row('write', 'POST', '/a/b'),
  row('list', 'GET', '/a/items'),
  row('remove', 'DELETE', '/a/items/:id'),
  row('exact', 'GET', '/a/items/exact'),
  row('below', 'GET', '/deep/*'),
])
const answer = ({ handler }: Match): Promise<Reply> => handler(requestOf([]))

void t.test('a path is matched whole, with its method', async (t) => {
  t.match(router('GET', '/a/b'), { name: 'read', idAt: 4 })
  t.match(router('POST', '/a/b'), { name: 'write' })
  t.equal((await answer(router('POST', '/a/b'))).body, 'write')
  t.match(router('HEAD', '/a/b'), { name: 'read' }, 'HEAD is GET')
  t.match(router('HEAD', '/a/items/x'), { name: 'wrong_method' }, 'where there is one')
})

void t.test('there is one spelling of a path', async (t) => {
  const rows = [
    '/a/b/',
    '/A/b',
    '/a//b',
    '//a/b',
    '/a/./b',
    '/a/x/../b',
    '/%61/b',
    '/a%2fb',
    '/a\\b',
    'http://x/a/b',
    '/a/b#f',
    '/a/b;x',
    '',
    '*',
    '/',
    'a/b',
    '/a/b ',
    '/a',
    '/a/items/',
    '/a/items/:id',
    '/a/items/x/y',
    '/a/items/x.y',
    '/a/items/%61',
    `/a/items/${'x'.repeat(65)}`,
    '__proto__',
    'constructor',
    '/constructor',
  ]
  for (const path of rows) {
    const match = router('GET', path)
    t.equal(match.name, 'unknown', path)
    t.equal(match.shape, undefined, 'as the listener tells it')
    t.match(await answer(match), { status: 404, error: 'Not found: look at the address' })
  }
})

void t.test(
  'another method is a 405 that says which there are, in the words of its clients',
  async (t) => {
    for (const method of ['PUT', 'get', 'head', 'OPTIONS', 'TRACE', 'DELETE', '']) {
      const match = router(method, '/a/b')
      t.equal(match.name, 'wrong_method', method)
      t.equal(match.shape, own)
      t.match(await answer(match), {
        status: 405,
        headers: ['Allow', 'GET, HEAD, POST'],
        error: 'Method not allowed: use GET, HEAD, POST',
      })
    }
    t.same((await answer(router('GET', '/a/items/x'))).headers.slice(-2), ['Allow', 'DELETE'])
  },
)

void t.test('an id is one segment of its alphabet, and an exact path comes first', (t) => {
  t.match(router('DELETE', '/a/items/Az-_09'), { name: 'remove', idAt: '/a/items/'.length })
  t.equal(router('DELETE', `/a/items/${'x'.repeat(64)}`).name, 'remove')
  t.match(router('GET', '/a/items/exact'), { name: 'exact', idAt: '/a/items/exact'.length })
  t.equal(router('DELETE', '/a/items/exact').name, 'wrong_method')
  t.end()
})

void t.test('what is open below takes whatever follows, as it came', (t) => {
  for (const path of [
    '/deep/',
    '/deep/a',
    '/deep/a/b/',
    '/deep//',
    '/deep/a..b',
    '/deep/...',
    '/deep/:id',
  ]) {
    t.match(router('GET', path), { name: 'below', idAt: '/deep/'.length }, path)
    t.equal(router('POST', path).name, 'wrong_method')
  }
  for (const path of [
    '/deep',
    '/deepe',
    '/Deep/',
    '//deep/',
    '/deep/../a/b',
    '/deep/%2e%2e/a/b',
    '/deep/%2E./a/b',
    '/deep/x/..%2f..%2fa/b',
    '/deep/./a',
    '/deep/..',
  ]) {
    t.equal(router('GET', path).name, 'unknown', path)
  }
  t.end()
})
