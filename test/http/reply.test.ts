// Reasons, statuses and challenges: the tables are complete.

import t from 'tap'

import { REASONS, refuse } from '../../src/auth/decision.ts'
import { challenge, failure, json, retryAfter, STATUS } from '../../src/http/reply.ts'

void t.test('every reason has a status that nginx knows', (t) => {
  t.same(Object.keys(STATUS).sort(), [...REASONS].sort())
  const forbidden = REASONS.filter((reason) => STATUS[reason] === 403)
  t.same(
    forbidden,
    [
      'unknown_role',
      'bad_action',
      'bad_resource',
      'cross_site',
      'limit',
      'unknown_call',
      'no_grant',
    ].filter((reason) => (REASONS as readonly string[]).includes(reason)),
    'who is known and welcome, but not for this, or not now',
  )
  for (const reason of REASONS) t.ok([401, 403].includes(STATUS[reason]))
  t.end()
})

void t.test('RFC 6750: no code where nothing was shown, one word for every bad token', (t) => {
  for (const reason of REASONS) {
    const code = /error="([a-z_]+)"$/.exec(challenge(refuse(reason)))?.[1]
    const due: Record<string, string | undefined> = {
      no_credential: undefined,
      invalid_request: 'invalid_request',
    }
    const usual = STATUS[reason] === 403 ? 'insufficient_scope' : 'invalid_token'
    t.equal(code, reason in due ? due[reason] : usual, reason)
    t.match(challenge(refuse(reason)), /^Bearer realm="postern"/)
  }
  t.end()
})

void t.test('JSON says its charset', (t) => {
  t.same(json(200, { a: 1 }), {
    status: 200,
    headers: ['Content-Type', 'application/json; charset=utf-8'],
    body: '{"a":1}',
  })
  t.end()
})

void t.test('of an error the server makes the body', (t) => {
  t.same(failure(404, 'gone'), { status: 404, error: 'gone', headers: [] })
  t.same(failure(429, 'later', { headers: retryAfter(9), reason: 'expired' }), {
    status: 429,
    error: 'later',
    headers: ['Retry-After', '9'],
    reason: 'expired',
  })
  t.end()
})
