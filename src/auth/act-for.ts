// A machine key that makes a ticket in a user's name: in a session of that user's, which it opens and nobody can refresh.
// So whatever ends the user's rights ends the ticket by the ways there are; and as its id begins with the key's, so does
// the end of the key.

import { randomBytes } from 'node:crypto'

import type { Clock } from '../clock.ts'
import type { Session, Store } from '../store/store.ts'
import type { Lookup, User } from '../users/source.ts'
import type { Identity } from './check.ts'
import { createId } from './issue.ts'
import { judgeAgain } from './login.ts'
import { machineKeyOf } from './machine-key.ts'
import { NOBODY } from './pattern.ts'
import type { Sessions } from './sessions.ts'

export type ActedFor =
  /** `opened`: the session is new. */
  | { identity: Identity; opened: boolean }
  | { refused: 'no_grant' | 'unknown_user' | 'disabled' }
  | { unavailable: 'source_away' }

export const createActFor = (parts: {
  users: {
    lookup(username: string): Promise<Lookup>
    peek(username: string): Lookup | undefined
  }
  store: Pick<Store, 'identify' | 'listSessions' | 'openSession'>
  sessions: Pick<Sessions, 'end'>
  /** How long a stream goes on that a ticket opened: as long as with an access token. */
  accessTtl: number
  clock: Clock
}) => {
  const { users, store, sessions, accessTtl, clock } = parts

  const openSession = async ({ claims }: Identity, user: User, address: string) => {
    const now = clock.now()
    // Twice as long as is needed, so that a busy page opens few.
    const end = Math.min(now + 2 * accessTtl, claims.exp)
    const session: Session = {
      sid: `${claims.sid}-${createId()}`,
      userId: await store.identify(user.name),
      username: user.name,
      role: user.role,
      dialect: 'softphone',
      credential: user.credential,
      language: 'en',
      persistent: false,
      createdAt: now,
      expiresAt: end,
      accessUntil: end,
      seenAt: now,
      address,
      agent: claims.username,
    }
    await store.openSession(session, randomBytes(32)) // the hash of nothing
    return session
  }

  /** Under way: a page that asks for fifty tickets at once opens one session. */
  const finding = new Map<string, Promise<Session>>()

  return async (holder: Identity, username: string, address: string): Promise<ActedFor> => {
    const { claims } = holder
    const mayAct = claims.machine?.users.some(({ matches }) => matches(username, NOBODY)) === true
    if (!mayAct) return { refused: 'no_grant' }
    const known = await users.lookup(username)
    if (!('user' in known)) return known
    const { user } = known
    const now = clock.now()
    const until = Math.min(now + accessTtl, claims.exp)
    let opened = false
    const find = async (): Promise<Session> => {
      const live = (await store.listSessions(now, username)).find(
        ({ sid, expiresAt, credential }) =>
          machineKeyOf(sid) === claims.sid && expiresAt >= until && credential === user.credential,
      )
      opened = live === undefined
      return live ?? openSession(holder, user, address)
    }
    const which = `${claims.sid} ${user.credential} ${username}`
    const found = finding.get(which) ?? find().finally(() => finding.delete(which))
    finding.set(which, found)
    const { sid, userId } = await found
    // What ended the user's sessions meanwhile did not see this one.
    const gone = judgeAgain(users.peek(username), user)
    if (gone) {
      if (opened) await sessions.end(sid, gone.cause)
      return { unavailable: 'source_away' }
    }
    const identity: Identity = {
      role: user.role,
      number: user.number,
      claims: {
        type: 'access',
        sub: String(userId),
        username,
        role: user.role,
        sid,
        jti: sid,
        iat: now,
        nbf: now,
        exp: until,
        kid: '',
      },
    }
    return { identity, opened }
  }
}

export type ActFor = ReturnType<typeof createActFor>
