// Machine keys at the door. Who shows one that we do not know is counted as who guesses a password is, and by the same
// counts, but here alone: nginx limits no checks, so a flood of guesses must not reach a shared store. A key that we know is
// never kept out by them: nobody locks a wallboard out from its own network.

import type { Decision } from '../auth/check.ts'
import { hashMachineKey, isMachineKey } from '../auth/machine-key.ts'
import type { MachineKeys } from '../auth/machine-keys.ts'
import type { LocalThrottle } from '../auth/throttle.ts'
import { readBearer } from './credential.ts'
import { failure, type SecurityEvent } from './reply.ts'
import type { Handler, Request } from './request.ts'

/** What the security log is told of a refusal; a guess is counted. */
export type JudgeGuess = (request: Request, decision: Decision) => SecurityEvent[]

const SUSPICIOUS: ReadonlySet<string> = new Set(['unknown_machine_key', 'wrong_network'])

/** What `readBearer` found to be one. */
const shownKey = ({ headers }: Request): string | undefined => {
  const shown = readBearer(headers)
  return 'token' in shown && isMachineKey(shown.token) ? shown.token : undefined
}

export const createGuessJudge =
  (parts: { throttle: LocalThrottle; nameOf: MachineKeys['nameOf'] }): JudgeGuess =>
  (request, decision) => {
    const isSuspicious = 'refused' in decision && SUSPICIOUS.has(decision.refused)
    const token = isSuspicious ? shownKey(request) : undefined
    if (token === undefined) return []
    const name = 'MACHINE_KEY_DENIED'
    const user = parts.nameOf(token)
    if (user !== undefined) return [{ name, message: 'shown from another network', user }]
    // One script with a key of another site is one account to the counts: it never uses up those of its whole network.
    const account = `key ${hashMachineKey(token)?.slice(0, 16)}`
    const attempt = parts.throttle.begin(account, request.address)
    if ('settle' in attempt) attempt.settle('failed')
    if (!('retryAfter' in attempt)) return [{ name, message: 'unknown machine key' }]
    return attempt.first ? [{ name: 'BANNED', message: 'too many unknown machine keys' }] : []
  }

/** For what is a session's: a machine key has none, which whoever shows one is told, good or not. */
export const forPeople =
  (handler: Handler): Handler =>
  async (request) =>
    shownKey(request) === undefined
      ? handler(request)
      : failure(
          403,
          'A machine key has no session: nothing to refresh, to log out or to list; it counts until it is removed',
        )
