// The command of its own that logs in to MikoPBX or Postern. Stdout gets the token and one newline, or
// nothing at all, whatever happens: shells put it straight into a variable.

import type { Time } from '../clock.ts'
import { fetchToken } from '../token-client/fetch-token.ts'
import { parseSettings, USAGE } from '../token-client/settings.ts'
import type { Environment } from '../token-client/settings.ts'

export interface Terminal {
  /** Resolves to false when nobody takes it: a closed pipe, a full disk. */
  out(text: string): Promise<boolean>
  /** One line for a person. */
  err(line: string): void
  clock: Pick<Time, 'now' | 'wait'>
}

/** The exit code: 0 token, 1 refused, 2 transport, 3 unusable answer, 64 wrong usage. */
export const getAuthToken = async (
  args: readonly string[],
  env: Environment,
  { out, err, clock }: Terminal,
): Promise<number> => {
  const parsed = parseSettings(args, env)
  if ('help' in parsed) {
    // on stderr too: TOKEN=$(get-auth-token --help) must not end up holding a manual
    err(USAGE)
    return 0
  }
  if ('problems' in parsed) {
    for (const problem of parsed.problems) err(`get-auth-token: ${problem}`)
    return 64
  }
  const explain = (line: string): void => {
    if (parsed.settings.debug) err(`debug: ${line}`)
  }
  const verdict = await fetchToken(parsed.settings, { clock, explain })
  if (!('token' in verdict)) {
    err(`get-auth-token: ${verdict.message}`)
    return verdict.exit
  }
  explain(`token: ${verdict.token.length} characters, valid for ${verdict.secondsLeft} s`)
  if (await out(`${verdict.token}\n`)) return 0
  err('get-auth-token: the token could not be written to stdout: who reads it has gone')
  return 2
}
