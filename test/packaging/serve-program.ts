// A daemon of another build than the tree's own: of the package, of a later version. It must end with its test.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Test } from 'tap'
import { type Place, until } from '../fixtures/postern.ts'

export interface Served {
  readonly pid: number
  log(): string
  stop(): Promise<void>
}

/** `program`: a command and its arguments, to which `serve --config FILE` is added. Resolves when it can decide. */
export const serveProgram = async (
  t: Test,
  place: Place,
  [command = '', ...args]: readonly string[],
): Promise<Served> => {
  // Without the runner's own NODE_OPTIONS.
  const child = spawn(command, [...args, 'serve', '--config', place.config], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] },
  })
  let log = ''
  const write = (text: string): void => {
    log += text
  }
  child.stdout.setEncoding('utf8').on('data', write)
  child.stderr.setEncoding('utf8').on('data', write)
  const ended = once(child, 'close')
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    await ended
  }
  t.teardown(stop)
  await until('the daemon can decide', async () => {
    if (child.exitCode !== null) throw new Error(`the daemon ended: ${log}`)
    if (!log.includes('"msg":"ready"')) return false
    return (await place.operator('/readyz')).status === 200
  })
  return { pid: child.pid ?? 0, log: () => log, stop }
}
