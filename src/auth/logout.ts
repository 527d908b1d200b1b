// Whoever holds a token of a session may end it. Doing so twice is no error, and an expired token still names its
// session: a client that comes late must be able to log out.

import type { Store } from '../store/store.ts'
import type { Guard } from './check.ts'
import { findByNames, mayBeStored, namesOf } from './refresh-token.ts'
import type { Sessions } from './sessions.ts'
import type { Tokens } from './token.ts'

export type LogoutResult = { username: string; ended: number } | { refused: 'no_token_of_ours' }

const NOT_OURS: LogoutResult = { refused: 'no_token_of_ours' }

export const createLogout = (parts: {
  guard: Pick<Guard, 'identify'>
  tokens: Pick<Tokens, 'verify'>
  store: Pick<Store, 'findByRefresh'>
  sessions: Sessions
  now(): number
}) => {
  const { guard, tokens, store, sessions, now } = parts

  const leave = async (
    sid: string,
    username: string,
    everywhere: boolean,
  ): Promise<LogoutResult> => {
    if (everywhere) {
      const all = await sessions.endAllOf(username, 'logout_everywhere')
      return { username, ended: all.length }
    }
    const [one] = await Promise.all([
      sessions.end(sid, 'logout'),
      // A link to a recording, which a machine made in the user's name, dies with the page that shows it.
      sessions.endByMachines(username, 'logout'),
    ])
    return { username, ended: one ? 1 : 0 }
  }

  /** By an opaque refresh token, or a JWT of that session. */
  const byRefreshToken = async (
    token: string,
    everywhere: boolean,
    sid?: string,
  ): Promise<LogoutResult> => {
    const found = await findByNames(store, namesOf(token, sid), now())
    if (found.state === 'unknown') return NOT_OURS
    if (everywhere && found.state !== 'live') return NOT_OURS
    return leave(found.session.sid, found.session.username, everywhere)
  }

  return {
    /** By an access or refresh JWT. `everywhere` needs a token that is still valid; a dead one ends its own session. */
    async byToken(token: string, everywhere: boolean): Promise<LogoutResult> {
      const claims = await tokens.verify(token)
      if ('refused' in claims) {
        return mayBeStored(claims) ? byRefreshToken(token, everywhere) : NOT_OURS
      }
      // A ticket travels in URLs: whoever finds one in a log must not be able to log its owner out.
      if (claims.type === 'ticket') return NOT_OURS
      // Its session is another system's, which we cannot end.
      if (claims.foreign) return NOT_OURS
      // A refresh token outlives our memory of ended sessions: the store knows whether it is still valid.
      if (claims.type === 'refresh' && everywhere) {
        return byRefreshToken(token, everywhere, claims.sid)
      }
      // A logout everywhere that waits to be written has ended this token here, and is asked again until it is.
      if (everywhere && !sessions.owesAll(claims.username)) {
        const standing = await guard.identify(token, claims.type)
        if ('refused' in standing) return NOT_OURS
      }
      return leave(claims.sid, claims.username, everywhere)
    },
    byRefreshToken: (token: string, everywhere: boolean) => byRefreshToken(token, everywhere),
  }
}

export type Logout = ReturnType<typeof createLogout>
