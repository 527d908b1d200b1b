// The mikopbx dialect's envelope and its cookie.

import t from 'tap'

import { clearedCookie, refreshCookie, shape, success } from '../../../src/http/mikopbx/reply.ts'

const TYPE = ['Content-Type', 'application/json; charset=utf-8']

void t.test('every answer has result, data and messages', (t) => {
  t.same(success({ a: 1 }), {
    status: 200,
    headers: TYPE,
    body: '{"result":true,"data":{"a":1},"messages":{}}',
  })
  t.same(shape('no', 5), { result: false, data: {}, messages: { error: ['no'] } })
  t.end()
})

void t.test('the cookie is cleared with the attributes it was set with', (t) => {
  const attributes = ([, line]: string[]): string[] => (line ?? '').split('; ').slice(1)
  for (const secure of [true, false]) {
    t.same(attributes(clearedCookie(secure)), [
      ...attributes(refreshCookie('x', secure)),
      'Max-Age=0',
    ])
  }
  t.same(refreshCookie('x', true, 9), [
    'Set-Cookie',
    'refreshToken=x; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=9',
  ])
  t.end()
})
