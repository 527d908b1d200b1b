// What each outcome of a refresh leaves behind.

import t from 'tap'

import type { RefreshResult } from '../../src/auth/refresh.ts'
import { refreshEvents, refreshLabel } from '../../src/http/refresh.ts'

const ended = { sid: 's1', username: '201', cause: 'refresh_reused', until: 0 } as const

const rows: [result: RefreshResult, label: string, events: number][] = [
  [{ outcome: 'renewed' } as RefreshResult, 'renewed', 0],
  [{ outcome: 'rotated' } as RefreshResult, 'rotated', 0],
  [{ outcome: 'replayed' } as RefreshResult, 'replayed', 0],
  [{ refused: 'reused', ended }, 'reused', 1],
  [{ refused: 'reused' }, 'reused', 0],
  [{ refused: 'expired' }, 'expired', 0],
  [{ refused: 'user_gone', ended }, 'user_gone', 0],
  [{ unavailable: 'source_away', retryAfter: 5 }, 'source_away', 0],
]

for (const [result, label, events] of rows) {
  void t.test(`${label} with ${events} lines in the security log`, (t) => {
    t.equal(refreshLabel(result), label)
    t.equal(refreshEvents(result).length, events)
    t.end()
  })
}

void t.test('a reuse names the session and its user, and no token', (t) => {
  t.same(refreshEvents({ refused: 'reused', ended }), [
    {
      name: 'REFRESH_REUSED',
      message: 'session s1 ended: a rotated refresh token came back',
      user: '201',
      sid: 's1',
    },
  ])
  t.end()
})
