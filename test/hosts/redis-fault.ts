// Ways to make a real Redis refuse or stall, for the tests of faults. It must never wait inside this process:
// the checks under way are asked from here.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'

import type { RedisServer } from '../fixtures/redis.ts'

/** redis-cli without waiting for it here; resolves with what it prints. */
export const spawnCli = async (redis: RedisServer, ...args: string[]): Promise<string> => {
  const child = spawn('redis-cli', ['-s', redis.socket, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  await once(child, 'close')
  return text.trim()
}

/** Resolves when it says what it should, asked without blocking this process. */
export const untilItSays = async (redis: RedisServer, says: RegExp, ...args: string[]) => {
  const deadline = performance.now() + 20_000
  for (;;) {
    const asked = spawnCli(redis, ...args)
    const said = await Promise.race([asked, pause(100, 'silence', { ref: false })])
    if (says.test(said)) return
    if (performance.now() > deadline) throw new Error(`redis says ${said}, never ${says}`)
    await pause(10)
  }
}
