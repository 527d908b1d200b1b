// What each outcome of a login leaves behind.

import t from 'tap'

import type { LoginResult } from '../../src/auth/login.ts'
import { loginEvents, loginLabel } from '../../src/http/login.ts'

const issued = { issued: { session: { sid: 's1' } } } as LoginResult

const rows: [what: string, result: LoginResult, label: string, events: object[]][] = [
  [
    'a success',
    issued,
    'succeeded',
    [{ name: 'AUTH_SUCCESS', message: 'logged in', user: '201', sid: 's1' }],
  ],
  ...(
    [
      ['unknown_user', 'unknown user'],
      ['wrong_password', 'wrong password'],
      ['disabled', 'user is disabled'],
    ] as const
  ).map(([refused, message]): (typeof rows)[number] => [
    refused,
    { refused },
    refused,
    [{ name: 'AUTH_FAILED', message, user: '201' }],
  ]),
  [
    'the first refusal of a ban',
    { throttled: 'pair', retryAfter: 9, first: true },
    'throttled',
    [{ name: 'BANNED', message: 'too many failed logins (pair)', user: '201' }],
  ],
  ['the ones after it', { throttled: 'address', retryAfter: 9, first: false }, 'throttled', []],
  ['a full queue', { unavailable: 'hash_queue_full', retryAfter: 2 }, 'hash_queue_full', []],
  ['a source that is away', { unavailable: 'source_away', retryAfter: 5 }, 'source_away', []],
]

for (const [what, result, label, events] of rows) {
  void t.test(`${what} is counted as ${label}`, (t) => {
    t.equal(loginLabel(result), label)
    t.same(loginEvents('201', result), events)
    t.end()
  })
}
