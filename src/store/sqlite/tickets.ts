// Tickets that were used. The id of a row begins with the session and the end of the ticket, so that a session's lie
// together, those that run out first before the others; the session's own row has the end of the last that it forgot.

import type { DatabaseSync } from 'node:sqlite'

import { MOST_TICKETS, REPEAT_WITHIN, type Store } from '../store.ts'

type Answer = Awaited<ReturnType<Store['useTicket']>>

export const useTicket = (
  db: DatabaseSync,
): ((...asked: Parameters<Store['useTicket']>) => Answer) => {
  const insert = db.prepare('INSERT INTO used_tickets VALUES (?, ?, ?, ?)')
  const select = db.prepare('SELECT request_id, used_at, until FROM used_tickets WHERE id = ?')
  const count = db.prepare('SELECT count(*) AS all_of FROM used_tickets WHERE id > ? AND id < ?')
  const forget = db.prepare(
    `DELETE FROM used_tickets WHERE id =
     (SELECT id FROM used_tickets WHERE id > ? AND id < ? ORDER BY id LIMIT 1) RETURNING until`,
  )
  const cut = db.prepare(
    'INSERT INTO used_tickets VALUES (?1, ?2, 0, ?3) ON CONFLICT DO UPDATE SET until = ?3',
  )
  return (id, requestId, now, until, sid) => {
    const row = `${sid}.${String(until).padStart(16, '0')}.${id}`
    // By the id alone a version knew it that kept all of them.
    const known = select.get(row) ?? select.get(id)
    if (known) {
      const isAgain =
        known['request_id'] === requestId &&
        requestId !== '' &&
        Math.abs(now - Number(known['used_at'])) <= REPEAT_WITHIN // absolute: a clock may be set back
      return isAgain ? 'repeat' : 'used'
    }
    if (until <= Number(select.get(sid)?.['until'] ?? 0)) return 'used'
    insert.run(row, requestId, now, until)
    const ofSession = [`${sid}.`, `${sid}/`] as const // the next character
    if (Number(count.get(...ofSession)?.['all_of']) > MOST_TICKETS) {
      cut.run(sid, '', Number(forget.get(...ofSession)?.['until']))
    }
    return 'first'
  }
}
