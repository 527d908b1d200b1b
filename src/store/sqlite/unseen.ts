// The last refresh token of a session, sealed under its predecessor, until somebody has seen it: one for each session.

import type { DatabaseSync } from 'node:sqlite'

import { KEEP_UNSEEN } from '../store.ts'

export const createUnseen = (db: DatabaseSync) => {
  const upsert = db.prepare('INSERT OR REPLACE INTO unseen_successors VALUES (?, ?, ?, ?)')
  const select = db.prepare('SELECT sealed FROM unseen_successors WHERE sid = ? AND seq = ?')
  const deleteOne = db.prepare('DELETE FROM unseen_successors WHERE sid = ? AND seq = ?')
  const deleteOf = db.prepare('DELETE FROM unseen_successors WHERE sid = ?')
  const deleteOld = db.prepare(
    `DELETE FROM unseen_successors WHERE sid IN
     (SELECT sid FROM unseen_successors WHERE rotated_at <= ? LIMIT ?)`,
  )
  return {
    keep(sid: string, seq: number, rotatedAt: number, sealed: Uint8Array): void {
      upsert.run(sid, seq, rotatedAt, sealed)
    },
    /** Undefined where it was seen, or nothing is known of it. */
    find: (sid: string, seq: number): Uint8Array | undefined =>
      select.get(sid, seq)?.['sealed'] as Uint8Array | undefined,
    see(sid: string, seq: number): void {
      deleteOne.run(sid, seq)
    },
    forget(sid: string): void {
      deleteOf.run(sid)
    },
    prune(now: number, most: number): void {
      deleteOld.run(now - KEEP_UNSEEN, most)
    },
  }
}
