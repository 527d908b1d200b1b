// Something done to the daemons while clients ask without a pause, and what the clients got. It must never end
// before so many requests were asked that losing none means something.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type Machine, NODE, TREE } from '../fixtures/systemd.ts'

const SCRIPT = join(import.meta.dirname, '..', 'fixtures', 'systemd-namespace.sh')
const CLIENTS = '8'
const LEAST = '1000' // requests under which nothing was shown

export interface Load {
  /** Status or error → how often. */
  answered: Record<string, number>
  /** Seconds. */
  slowest: number
}

export const underLoad = async (
  { dir }: Pick<Machine, 'dir'>,
  url: string,
  token: string,
  act: () => Promise<unknown>,
): Promise<Load> => {
  const program = [NODE, `${TREE}/test/systemd/load.ts`, url, token, CLIENTS, LEAST]
  const load = spawn(SCRIPT, ['run', dir, ...program], { stdio: ['pipe', 'pipe', 'inherit'] })
  const said = text(load.stdout)
  const ended = once(load, 'exit')
  try {
    await act()
  } finally {
    load.stdin.end()
    await ended
  }
  return JSON.parse(await said) as Load
}
