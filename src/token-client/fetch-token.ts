// One login, tried again while that can help → the verdict. It never waits longer than --timeout between
// two attempts, and never lets the password or a token into what it reports.

import type { Time } from '../clock.ts'
import { sendRequest } from '../http-client.ts'
import type { Exchange } from '../http-client.ts'
import { judge } from './judge.ts'
import type { Verdict } from './judge.ts'
import type { Settings } from './settings.ts'

const MAX_ANSWER = 1024 * 1024 // a login answer is 1 KB; more is a web page or an attack on our memory
const FIRST_PAUSE = 0.5 // seconds, doubled each time

export interface Surroundings {
  clock: Pick<Time, 'now' | 'wait'>
  /** One line about what is going on, for --debug. */
  explain(line: string): void
}

const describe = (exchange: Exchange): string => {
  if ('failed' in exchange) return `failed: ${exchange.failed} (${exchange.stage})`
  // Set-Cookie carries the refresh token and Location may carry anything: only what is harmless is named
  const type = /^[\w/+.-]+/.exec(exchange.headers['content-type'] ?? '')?.[0] ?? 'none'
  const cookies = exchange.headers['set-cookie']?.length ?? 0
  return `answer: ${exchange.status}, content-type ${type}, ${exchange.body.length} characters, ${cookies} cookies`
}

export const fetchToken = async (
  settings: Settings,
  { clock, explain }: Surroundings,
): Promise<Verdict> => {
  const { url, login, password, timeout, insecure, trust } = settings
  const form = new URLSearchParams({ login, password, rememberMe: 'false' })
  const hidden = new URLSearchParams({ login, password: 'HIDDEN', rememberMe: 'false' })

  const tryOnce = async (attempt: number): Promise<Verdict> => {
    explain(`attempt ${attempt} of ${settings.retries + 1}: POST ${url.href}`)
    explain(`body: ${hidden.toString()}`)
    const exchange = await sendRequest({
      method: 'POST',
      url,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        accept: 'application/json',
        'user-agent': 'get-auth-token',
      },
      body: form.toString(),
      timeout,
      maxBytes: MAX_ANSWER,
      trust,
      insecure,
    })
    explain(describe(exchange))
    const verdict = judge(exchange, { url, login, timeout, now: clock.now() })
    if ('token' in verdict || verdict.retryAfter === undefined) return verdict
    if (attempt > settings.retries || verdict.retryAfter > timeout) return verdict
    const pause = Math.max(verdict.retryAfter, Math.min(FIRST_PAUSE * 2 ** (attempt - 1), timeout))
    explain(`trying again in ${pause} s`)
    await clock.wait(pause)
    return tryOnce(attempt + 1)
  }
  return tryOnce(1)
}
