// Machine keys at the door. Who shows one that we do not know is counted as who guesses a password is, and by the same
// counts, but here alone: nginx limits no checks, so a flood of guesses must not reach a shared store. A key that we know is
// never kept out by them: nobody locks a wallboard out from its own network.

import { hashMachineKey, isMachineKey } from '../auth/machine-key.ts'
import type { MachineKeys } from '../auth/machine-keys.ts'
import type { LocalThrottle } from '../auth/throttle.ts'
import { readBearer } from './credential.ts'
import { failure, type Reply, type SecurityEvent } from './reply.ts'
import type { Request } from './request.ts'
import type { Route } from './routes.ts'

const SUSPICIOUS: ReadonlySet<unknown> = new Set(['unknown_machine_key', 'wrong_network'])

/** A machine key has none, which whoever shows one there is told, good or not. */
const OF_A_SESSION = new Set(['refresh', 'logout', 'profile', 'sessions', 'session_end'])
const NO_SESSION =
  'A machine key has no session: nothing to refresh, to log out or to list; it counts until it is removed'

/** What `readBearer` found to be one. */
const shownKey = ({ headers }: Request): string | undefined => {
  const shown = readBearer(headers)
  return 'token' in shown && isMachineKey(shown.token) ? shown.token : undefined
}

/** For each route where one may be shown. */
export const createKeyDoor = (parts: {
  throttle: LocalThrottle
  nameOf: MachineKeys['nameOf']
}): ((route: Route) => Route) => {
  const tell = (token: string, address: string): SecurityEvent[] => {
    const name = 'MACHINE_KEY_DENIED'
    const user = parts.nameOf(token)
    if (user !== undefined) return [{ name, message: 'shown from another network', user }]
    // One script with a key of another site is one account to the counts: it never uses up those of its whole network.
    const account = `key ${hashMachineKey(token)?.slice(0, 16)}`
    const attempt = parts.throttle.begin(account, address)
    if ('settle' in attempt) attempt.settle('failed')
    if (!('retryAfter' in attempt)) return [{ name, message: 'unknown machine key' }]
    return attempt.first ? [{ name: 'BANNED', message: 'too many unknown machine keys' }] : []
  }
  /** The security log is told of such a refusal; a guess is counted. */
  const judge = (request: Request, reply: Reply): Reply =>
    SUSPICIOUS.has(reply.reason)
      ? { ...reply, events: tell(String(shownKey(request)), request.address) }
      : reply

  return ({ atOnce, handler, ...route }) => ({
    ...route,
    ...(atOnce && {
      atOnce(request) {
        const reply = atOnce(request)
        return reply && judge(request, reply)
      },
    }),
    async handler(request) {
      const isRefused = OF_A_SESSION.has(route.name) && shownKey(request) !== undefined
      if (isRefused) return failure(403, NO_SESSION)
      return judge(request, await handler(request))
    },
  })
}
