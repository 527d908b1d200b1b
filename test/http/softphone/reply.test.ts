// The softphone dialect's shapes of an answer.

import t from 'tap'

import { refuse } from '../../../src/auth/decision.ts'
import { readHeaders } from '../../../src/http/headers.ts'
import { createSite } from '../../../src/http/site.ts'
import { accessCookie, refusal, shape, success } from '../../../src/http/softphone/reply.ts'

const TYPE = ['Content-Type', 'application/json; charset=utf-8']

const SITE = createSite([], 'auto')
const NO_HEADERS = readHeaders([])

void t.test('success is said first, and an error says when', (t) => {
  t.same(success({ a: 1 }), {
    status: 200,
    headers: TYPE,
    body: '{"success":true,"a":1}',
  })
  t.same(shape('no', 5), { success: false, error: 'no', timestamp: 5 })
  t.end()
})

void t.test(
  'who shows the wrong kind of token, or a foreign page, is a 403; everyone else a 401',
  (t) => {
    t.match(refusal(refuse('wrong_type'), SITE, NO_HEADERS), { status: 403, reason: 'wrong_type' })
    t.match(refusal(refuse('cross_site'), SITE, NO_HEADERS), { status: 403, reason: 'cross_site' })
    t.match(refusal(refuse('expired'), SITE, NO_HEADERS), { status: 401, reason: 'expired' })
    t.match(refusal(refuse('no_credential'), SITE, NO_HEADERS).headers, [
      'WWW-Authenticate',
      'Bearer realm="postern"',
    ])
    t.end()
  },
)

void t.test('the access cookie has the name of its site', (t) => {
  t.same(accessCookie('x', true, 9), [
    'Set-Cookie',
    '__Host-postern=x; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=9',
  ])
  t.same(accessCookie('', false, 0), [
    'Set-Cookie',
    'postern=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0',
  ])
  t.end()
})
