// Monotonic time as the store has counted it, over restarts, and what the wall clock has stood past meanwhile.

import type { DatabaseSync } from 'node:sqlite'

import { HOUR, HOURS_TO_PASS } from '../store.ts'

export const createCountedTime = (db: DatabaseSync) => {
  const select = db.prepare('SELECT seconds, past FROM counted_time')
  const upsert = db.prepare(
    `INSERT INTO counted_time VALUES (1, ?, ?)
     ON CONFLICT DO UPDATE SET seconds = excluded.seconds, past = excluded.past`,
  )
  const upsertHour = db.prepare(
    'INSERT INTO counted_hours VALUES (?, ?) ON CONFLICT DO UPDATE SET earliest = min(earliest, excluded.earliest)',
  )
  const deleteHours = db.prepare('DELETE FROM counted_hours WHERE hour < ?')
  const selectHours = db.prepare(
    'SELECT count(*) AS hours, min(earliest) AS earliest FROM counted_hours',
  )
  return {
    count(now: number, elapsed: number): number {
      const row = select.get()
      const seconds = Number(row?.['seconds'] ?? 0) + Math.min(elapsed, HOUR)
      const hour = Math.floor(seconds / HOUR)
      upsertHour.run(hour, now)
      deleteHours.run(hour - HOURS_TO_PASS)
      const hours = selectHours.get()
      const before = Number(row?.['past'] ?? 0)
      // The hour under way is one more: without it the last of them may have begun a moment ago.
      const isWhole = Number(hours?.['hours']) > HOURS_TO_PASS
      const past = isWhole ? Math.max(before, Number(hours?.['earliest'])) : before
      upsert.run(seconds, past)
      return past
    },
    beginAnew(): void {
      deleteHours.run(Infinity)
      upsert.run(0, 0)
    },
  }
}
