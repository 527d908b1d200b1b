// Sessions that nobody has refreshed for too long. They are looked at in turn: an index of when each was last seen would
// be written at each refresh.

import type { DatabaseSync } from 'node:sqlite'

const SLICE = 5000 // sessions a call: a million take under two hours

export const createIdleLook = (db: DatabaseSync) => {
  const select = db.prepare(
    'SELECT sid, seen_at, access_until FROM sessions WHERE sid > ? ORDER BY sid LIMIT ?',
  )
  let looked = ''
  /** Those that are over, and whose last token is past, too. */
  return (past: number, idleTtl: number): string[] => {
    if (idleTtl === 0) return []
    const rows = select.all(looked, SLICE)
    looked = String(rows.at(-1)?.['sid'] ?? '') // behind the last one it begins anew
    return rows
      .filter((row) => Number(row['seen_at']) + idleTtl <= past)
      .filter((row) => Number(row['access_until']) <= past)
      .map((row) => String(row['sid']))
  }
}
