// The decision nginx asks for: may whoever holds this token do this action on this resource? Everything it
// needs is in memory. With a remembered verdict it answers at once; it never waits for the store.

import type { Clock } from '../clock.ts'
import type { Lookup } from '../users/source.ts'
import { type Reason, type Refusal, refuse } from './decision.ts'
import { findGrant, isAction, isResource, isUnknownCall, type Policy } from './grants.ts'
import { findMachineGrant, isMachineKey, machineKeyOf } from './machine-key.ts'
import type { MachineKeys } from './machine-keys.ts'
import type { Revocations } from './revocations.ts'
import { type Claims, judgeTime, type Tokens, type TokenType, type Verdict } from './token.ts'

/** Who holds the token: with today's role and number where the users are in memory, else with the token's. */
export interface Identity {
  readonly claims: Claims
  readonly role: string
  /** Under which their calls are found; undefined: none surely is theirs. */
  readonly number?: string | undefined
}

export interface CheckRequest {
  token: string
  /** From where, if it was shown where a machine key may be: in the Authorization header. Else none is taken. */
  keyFrom?: string | undefined
  /** What it was shown as: an access token is never taken for a ticket, nor a ticket for an access token. */
  type?: 'access' | 'ticket'
  /** As nginx's location named them; undefined where it named none, or two. */
  action: string | undefined
  resource: string | undefined
}

export type Decision = Identity | Refusal

const GONE: Readonly<Record<'unknown_user' | 'disabled', Reason>> = {
  unknown_user: 'user_removed',
  disabled: 'user_disabled',
}

/** Whether a role still grants this to somebody, for what was allowed before a reload. */
export type StillGranted = (
  role: string,
  action: string,
  resource: string,
  /** `number`: as it was let in, for whom only their source could tell today's. */
  subject: { username: string; id: string; number?: string | undefined },
) => boolean

export const createStillGranted =
  ({
    policy,
    peek,
    isForeign,
  }: {
    policy: Policy
    peek(username: string): Lookup | undefined
    /** Whether the name belongs to a trusted issuer's user: our own sources are not asked about those. */
    isForeign(username: string): boolean
  }): StillGranted =>
  (role, action, resource, { username, id, ...then }) => {
    const known = isForeign(username) ? undefined : peek(username)
    if (known && 'refused' in known) return false
    const { role: today, number } = known && 'user' in known ? known.user : { role, ...then }
    const subject = { username, id, role: today, number }
    const grants = policy.get(today) ?? []
    return isAction(action) && findGrant(grants, action, resource, subject) !== undefined
  }

export const createGuard = (parts: {
  tokens: Pick<Tokens, 'remembered' | 'verify'>
  revocations: Pick<Revocations, 'has' | 'isBeforeEpoch' | 'isPast'>
  policy: Policy
  /** What is known of a user in memory; undefined where only their source could tell. */
  peek(username: string): Lookup | undefined
  /** A dialect's name for a role → ours. */
  ownRole: ReadonlyMap<string, string>
  clock: Clock
  /** Whether the session is to end, and that could not be written yet. */
  owes(session: { sid: string; username: string }): boolean
  /** Why ended sessions may be unknown to us: thrown instead of allowing, since it says nothing about the token. */
  obstacle?(): Error | undefined
  keys?: Pick<MachineKeys, 'identify' | 'stands'> | undefined
  /** The same, of machine keys. */
  keyObstacle?(): Error | undefined
}) => {
  const { tokens, revocations, policy, peek, ownRole, clock, owes, obstacle, keys } = parts

  const judge = (claims: Verdict, type: TokenType): Decision => {
    if ('refused' in claims) return claims
    if (claims.type !== type) return refuse('wrong_type')
    const untimely = judgeTime(claims, clock.now())
    if (untimely) return untimely
    // The clock was set back by more than a day. Another issuer's sessions end there: we have forgotten none.
    if (!claims.foreign && revocations.isPast(claims.exp)) return refuse('expired')
    if (revocations.has(claims.sid) || revocations.isBeforeEpoch(claims.iat)) {
      return refuse('session_ended')
    }
    const keyId = claims.foreign ? undefined : machineKeyOf(claims.sid)
    if (keyId !== undefined) {
      const fault = parts.keyObstacle?.()
      if (fault) throw fault
      if (keys?.stands(keyId) !== true) return refuse('session_ended')
    }
    const known = claims.foreign ? undefined : peek(claims.username)
    if (known && 'refused' in known) return refuse(GONE[known.refused])
    if (!claims.foreign && owes(claims)) return refuse('session_ended')
    const fault = obstacle?.()
    if (fault) throw fault
    // Mapped already; the name is not one of ours, and a number in it may be another's here.
    if (claims.foreign) return { claims, role: claims.role }
    if (known && 'user' in known)
      return { claims, role: known.user.role, number: known.user.number }
    return { claims, role: ownRole.get(claims.role) ?? claims.role, number: claims.number }
  }

  /** Undefined: no machine key is shown, or none would be taken there. */
  const judgeKey = (token: string, from: string | undefined): Decision | undefined => {
    if (!keys || from === undefined || !isMachineKey(token)) return undefined
    const found = keys.identify(token, from)
    if ('refused' in found && found.refused !== 'unknown_machine_key') return found
    // It may have been added, or removed, where we have not looked yet.
    const fault = parts.keyObstacle?.()
    if (fault) throw fault
    return 'claims' in found && revocations.isPast(found.claims.exp) ? refuse('expired') : found
  }

  const authorize = (identity: Decision, request: CheckRequest): Decision => {
    const { action, resource } = request
    if ('refused' in identity) return identity
    if (action === undefined || !isAction(action)) return refuse('bad_action')
    if (resource === undefined || !isResource(resource)) return refuse('bad_resource')
    const { claims, role, number } = identity
    const { ticket, machine } = claims
    if (machine) {
      return findMachineGrant(machine, action, resource) ? identity : refuse('no_grant')
    }
    const grants = policy.get(role)
    if (!grants) return refuse('unknown_role')
    const subject = { username: claims.username, id: claims.sub, role, number }
    if (ticket && !(ticket.action === action && ticket.pattern.matches(resource, subject))) {
      return refuse('ticket_mismatch')
    }
    // Also for a ticket: the grant it was issued under may be gone.
    if (findGrant(grants, action, resource, subject)) return identity
    return refuse(isUnknownCall(grants, action, resource, subject) ? 'unknown_call' : 'no_grant')
  }

  return {
    /** Whether the token still identifies somebody, whatever they may do. */
    identify: async (
      token: string,
      type: TokenType = 'access',
      keyFrom?: string,
    ): Promise<Decision> => judgeKey(token, keyFrom) ?? judge(await tokens.verify(token), type),
    /** The decision on a token that is remembered; undefined: it is not, so ask `check`. */
    checkRemembered(request: CheckRequest): Decision | undefined {
      const { token, type = 'access', keyFrom } = request
      const key = judgeKey(token, keyFrom)
      if (key) return authorize(key, request)
      const verdict = tokens.remembered(token)
      return verdict && authorize(judge(verdict, type), request)
    },
    async check(request: CheckRequest): Promise<Decision> {
      const { token, type = 'access', keyFrom } = request
      const identity = judgeKey(token, keyFrom) ?? judge(await tokens.verify(token), type)
      return authorize(identity, request)
    },
  }
}

export type Guard = ReturnType<typeof createGuard>
