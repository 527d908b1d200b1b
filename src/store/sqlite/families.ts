// What is kept of the tokens of a session that were traded long ago: their family alone, as a token that was rotated. Its
// number is below all others: -1 less that of its first token.

import type { DatabaseSync } from 'node:sqlite'

export const createFamilies = (db: DatabaseSync) => {
  const insert = db.prepare(
    'INSERT INTO refresh_tokens (hash, sid, seq, rotated_at) VALUES (?, ?, ?, ?)',
  )
  const select = db.prepare('SELECT seq FROM refresh_tokens WHERE hash = ?')
  const remove = db.prepare('DELETE FROM refresh_tokens WHERE sid = ? AND seq = ?')
  return {
    /** `seq` is of the token that was presented. The one before it goes, where it is of the family. */
    keep(family: Uint8Array, sid: string, seq: number, now: number): void {
      const known = select.get(family)
      if (!known) insert.run(family, sid, -1 - seq, now)
      else if (seq - 1 >= -1 - Number(known['seq'])) remove.run(sid, seq - 1)
    },
  }
}
