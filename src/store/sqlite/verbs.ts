// The store's verbs as SQL on an open database: one statement or a few, in the transaction of whoever calls.

import { existsSync } from 'node:fs'
import type { DatabaseSync, SQLInputValue } from 'node:sqlite'

import { NO_MACHINE_KEYS } from '../machine-key.ts'
import { createCountedTime } from './counted-time.ts'
import { createFamilies } from './families.ts'
import { createIdleLook } from './idle.ts'
import { type Row, sessionValues, toLeftSubscription, toSession } from './rows.ts'
import { SCHEMA_VERSION } from './schema.ts'
import { useTicket } from './tickets.ts'
import { createUnseen } from './unseen.ts'
import {
  type Access,
  type EndCause,
  type EndedSession,
  type Found,
  KEEP_SEALED,
  type Renewal,
  type Rotation,
  type Session,
  type Store,
  StoreError,
  type StoreVerb,
} from '../store.ts'

export type Verbs = {
  [Name in StoreVerb]: (...args: Parameters<Store[Name]>) => Awaited<ReturnType<Store[Name]>>
}

const PRUNE_SLICE = 1000 // rows a step: about 10 ms, so that a login never waits long behind it

const toEnded = (row: Row): EndedSession => ({
  sid: row['sid'] as string,
  username: row['username'] as string,
  cause: row['cause'] as EndCause,
  until: row['access_until'] as number,
})

const stateOf = (row: Row, now: number, idleTtl = 0): 'live' | 'ended' | 'expired' => {
  if (row['ended_at'] !== null) return 'ended'
  if (now >= (row['expires_at'] as number)) return 'expired'
  return idleTtl > 0 && now >= (row['seen_at'] as number) + idleTtl ? 'expired' : 'live'
}

/** Its row comes with the first key: a start writes nothing, or a damaged header would be told as a lack of rights. */
const createMachines = (db: DatabaseSync): Pick<Verbs, 'machineKeys' | 'replaceMachineKeys'> => {
  const select = db.prepare('SELECT keys FROM machines')
  const replace = db.prepare(
    `INSERT INTO machines SELECT 1, ? WHERE coalesce((SELECT keys FROM machines), '${NO_MACHINE_KEYS}') = ?
     ON CONFLICT DO UPDATE SET keys = excluded.keys`,
  )
  return {
    machineKeys: () => (select.get()?.['keys'] ?? NO_MACHINE_KEYS) as string,
    replaceMachineKeys: (known, next) => replace.run(next, known).changes === 1,
  }
}

export const createVerbs = (db: DatabaseSync, file: string): Verbs => {
  const statement = (sql: string) => {
    const prepared = db.prepare(sql)
    return {
      all: (...values: SQLInputValue[]) => prepared.all(...values) as Row[],
      get: (...values: SQLInputValue[]) => prepared.get(...values) as Row | undefined,
      run: (...values: SQLInputValue[]) => Number(prepared.run(...values).changes),
    }
  }

  const insertUser = statement('INSERT INTO users (name) VALUES (?) RETURNING id')
  const selectUser = statement('SELECT id FROM users WHERE name = ?')
  const insertSession = statement(
    'INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)',
  )
  const insertToken = statement('INSERT INTO refresh_tokens (hash, sid, seq) VALUES (?, ?, ?)')
  const selectByToken = statement(
    'SELECT s.*, t.seq, t.rotated_at, t.sealed FROM refresh_tokens t JOIN sessions s USING (sid) WHERE t.hash = ?',
  )
  const selectLastSeq = statement('SELECT max(seq) AS last FROM refresh_tokens WHERE sid = ?')
  const updateSession = statement(
    'UPDATE sessions SET role = ?, seen_at = ?, access_until = max(access_until, ?) WHERE sid = ? RETURNING *',
  )
  const markRotated = statement(
    'UPDATE refresh_tokens SET rotated_at = ?, sealed = ? WHERE hash = ?',
  )
  // Only the last token's predecessor has a sealed copy. By its number: a session of 30 days has thousands.
  const dropSealed = statement(
    `UPDATE refresh_tokens SET sealed = NULL
     WHERE sid = ?1 AND seq = (SELECT max(seq) - 1 FROM refresh_tokens WHERE sid = ?1)`,
  )
  const dropOldSealed = statement(
    `UPDATE refresh_tokens SET sealed = NULL WHERE hash IN
     (SELECT hash FROM refresh_tokens WHERE sealed IS NOT NULL AND rotated_at <= ? LIMIT ?)`,
  )
  const endOne = statement(
    'UPDATE sessions SET ended_at = ?, cause = ? WHERE sid = ? AND ended_at IS NULL RETURNING *',
  )
  const endOfUser = statement(
    'UPDATE sessions SET ended_at = ?, cause = ? WHERE username = ? AND ended_at IS NULL RETURNING *',
  )
  // The plus keeps every index out: one that lost an entry would let in who was thrown out. Read once a start, 0.3 s
  // of 1,000,000 sessions.
  const selectEnded = statement(
    'SELECT sid, username, cause, access_until FROM sessions WHERE +ended_at IS NOT NULL',
  )
  const selectLive = statement(
    'SELECT * FROM sessions WHERE ended_at IS NULL AND expires_at > ? ORDER BY created_at DESC, sid LIMIT ?',
  )
  const selectLiveOf = statement(
    'SELECT * FROM sessions WHERE ended_at IS NULL AND expires_at > ? AND username = ? ORDER BY created_at DESC, sid',
  )
  const countLive = statement(
    'SELECT count(*) AS live FROM sessions WHERE ended_at IS NULL AND expires_at > ?',
  )
  const selectCredentials = statement(
    'SELECT DISTINCT username, credential FROM sessions WHERE ended_at IS NULL AND expires_at > ?',
  )
  const selectPrunable = statement(
    `SELECT sid FROM sessions WHERE ended_at IS NULL AND expires_at <= ?1 AND access_until <= ?1
     UNION ALL SELECT sid FROM sessions WHERE ended_at IS NOT NULL AND access_until <= ?1 LIMIT ?2`,
  )
  const deleteTokens = statement('DELETE FROM refresh_tokens WHERE sid = ?')
  const deleteSession = statement('DELETE FROM sessions WHERE sid = ?')

  const selectSurplus = statement(
    `SELECT sid FROM sessions WHERE username = ? AND ended_at IS NULL AND expires_at > ? AND sid <> ?
     AND sid NOT GLOB 'key_*' -- that a machine key opened: the user's own are counted
     ORDER BY created_at DESC, sid LIMIT -1 OFFSET ?`,
  )
  const deleteTickets = statement(
    'DELETE FROM used_tickets WHERE id IN (SELECT id FROM used_tickets WHERE until <= ? LIMIT ?)',
  )
  const selectEpoch = statement('SELECT since FROM epoch')
  const upsertEpoch = statement(
    'INSERT INTO epoch VALUES (1, ?) ON CONFLICT DO UPDATE SET since = max(since, excluded.since)',
  )
  const selectAccess = statement(
    'SELECT role, access_until FROM sessions WHERE sid = ? AND ended_at IS NULL AND expires_at > ?',
  )
  const deleteSubscription = statement('DELETE FROM subscriptions WHERE kick = ?')
  const selectSubscriptions = statement('SELECT * FROM subscriptions')

  const countedTime = createCountedTime(db)
  const unseen = createUnseen(db)
  const families = createFamilies(db)
  const findIdle = createIdleLook(db)

  /** For a row that this same transaction has written or seen. */
  const one = (row: Row | undefined): Row => row as Row

  const dropCopies = (sid: string): void => {
    dropSealed.run(sid)
    unseen.forget(sid)
  }

  const renewSession = (sid: string, { role, now, accessUntil }: Renewal): Session =>
    toSession(one(updateSession.get(role, now, accessUntil, sid)))

  return {
    identify(username) {
      // Asked first: an insert spends a number of AUTOINCREMENT also where the name is there already.
      return one(selectUser.get(username) ?? insertUser.get(username))['id'] as number
    },
    openSession(session, refreshHash, most = 0) {
      insertSession.run(...sessionValues(session))
      insertToken.run(refreshHash, session.sid, 0)
      if (most === 0) return []
      return selectSurplus
        .all(session.username, session.createdAt, session.sid, most - 1)
        .map(({ sid }) => {
          dropCopies(sid as string)
          return toEnded(one(endOne.get(session.createdAt, 'limit', sid as string)))
        })
    },
    findByRefresh(refreshHash, now): Found {
      const row = selectByToken.get(refreshHash)
      if (!row) return { state: 'unknown' }
      const generation = row['seq'] as number
      return { state: stateOf(row, now), session: toSession(row), generation }
    },
    renew(refreshHash, renewal): Found {
      const row = selectByToken.get(refreshHash)
      if (!row) return { state: 'unknown' }
      // A token with a successor stays dead, also where rotation was switched off since.
      if (row['rotated_at'] !== null) return { state: 'unknown' }
      const session = toSession(row)
      const generation = row['seq'] as number
      const state = stateOf(row, renewal.now, renewal.idleTtl)
      return state === 'live'
        ? { state, session: renewSession(session.sid, renewal), generation }
        : { state, session, generation }
    },
    rotate(presented, next, renewal, grace, unseenGrace = 0): Rotation {
      const row = selectByToken.get(presented)
      if (!row) return { outcome: 'unknown' }
      const session = toSession(row)
      const { sid } = session
      const { now } = renewal
      const state = stateOf(row, now, renewal.idleTtl)
      if (state !== 'live') return { outcome: state, session }
      const seq = row['seq'] as number
      const last = one(selectLastSeq.get(sid))['last'] as number
      if (seq === last) {
        dropSealed.run(sid) // the successor is used: nobody needs its predecessor's copy
        markRotated.run(now, next.sealed, presented)
        insertToken.run(next.hash, sid, seq + 1)
        unseen.keep(sid, seq + 1, now, next.sealed)
        if (next.family) families.keep(next.family, sid, seq, now)
        return { outcome: 'rotated', session: renewSession(sid, renewal), generation: seq + 1 }
      }
      // Absolute: a clock set back must not stretch the window.
      const age = Math.abs(now - (row['rotated_at'] as number))
      if (seq === last - 1) {
        const sealed = row['sealed'] as Uint8Array | null
        const lost = unseen.find(sid, last)
        if (sealed && age <= grace) {
          const session = renewSession(sid, renewal)
          return { outcome: 'replayed', session, generation: last, sealed }
        }
        if (lost && age <= unseenGrace) {
          const session = renewSession(sid, renewal)
          return { outcome: 'recovered', session, generation: last, sealed: lost }
        }
      }
      dropCopies(sid)
      return {
        outcome: 'reused',
        session,
        ended: toEnded(one(endOne.get(now, 'refresh_reused', sid))),
      }
    },
    seeSuccessor(sid, generation) {
      unseen.see(sid, generation)
    },
    endSession(sid, cause, now) {
      const row = endOne.get(now, cause, sid)
      if (!row) return undefined
      dropCopies(sid)
      return toEnded(row)
    },
    endSessionsOf(username, cause, now) {
      const ended = endOfUser.all(now, cause, username).map(toEnded)
      for (const { sid } of ended) dropCopies(sid)
      return ended
    },
    listEnded: () => selectEnded.all().map(toEnded),
    listSessions: (now, username, most = -1) =>
      (username === undefined ? selectLive.all(now, most) : selectLiveOf.all(now, username)).map(
        toSession,
      ),
    countSessions: (now) => one(countLive.get(now))['live'] as number,
    listCredentials: (now) =>
      selectCredentials.all(now).map((row) => ({
        username: row['username'] as string,
        credential: row['credential'] as string,
      })),
    epoch: () => (selectEpoch.get()?.['since'] as number | undefined) ?? 0,
    moveEpoch(since) {
      upsertEpoch.run(since)
      countedTime.beginAnew()
    },
    useTicket: useTicket(db),
    accessOf(sessions, now) {
      const found = new Map<string, Access>()
      for (const sid of new Set(sessions.map((session) => session.sid))) {
        const row = selectAccess.get(sid, now)
        if (!row) continue
        found.set(sid, { role: row['role'] as string, until: row['access_until'] as number })
      }
      return found
    },
    ...createMachines(db),
    listSubscriptions: () => selectSubscriptions.all().map(toLeftSubscription),
    closeSubscriptions(kicks) {
      for (const kick of kicks) deleteSubscription.run(kick)
    },
    countTime: (now, elapsed) => countedTime.count(now, elapsed),
    prune(now, past, idleTtl = 0) {
      const tickets = deleteTickets.run(past, PRUNE_SLICE)
      dropOldSealed.run(now - KEEP_SEALED, PRUNE_SLICE)
      unseen.prune(now, PRUNE_SLICE)
      let sessions = 0
      let rows = 0
      const over = selectPrunable.all(past, PRUNE_SLICE).map(({ sid }) => sid as string)
      for (const sid of [...over, ...findIdle(past, idleTtl)]) {
        if (rows >= PRUNE_SLICE) break // one that an older version rotated for 30 days has thousands of tokens
        unseen.forget(sid)
        rows += deleteTokens.run(sid)
        sessions += deleteSession.run(sid)
      }
      return sessions + tickets
    },
    ping() {
      if (!existsSync(file)) {
        throw new StoreError('missing', `${file} is gone: put it back, or restart Postern`)
      }
      db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`) // a write: a read would succeed on a full disk
    },
  }
}
