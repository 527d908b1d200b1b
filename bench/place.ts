// Where a scenario happens: a folder of its own and the processes in it, each on a core of its own. It must leave
// nothing behind: no process, no folder.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

const CORES = availableParallelism()
const PIN = '/usr/bin/taskset'
// A bench that is killed takes its processes along.
const DIES_WITH_US = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--']
const START_LIMIT = 30 // seconds
const MOST_TEXT = 4_000_000 // characters that a process may say: a report holds thousands of tokens

/** Load generators and nginx on the first core, what is measured on the second; `any`: wherever there is room. */
export type Core = 'front' | 'back' | 'any'

const pin = (core: Core): string[] => {
  if (core === 'any' || CORES < 2 || !existsSync(PIN)) return []
  return [PIN, '-c', core === 'front' ? '0' : '1']
}

export interface Part {
  readonly name: string
  readonly pid: number
  readonly child: ChildProcess
  said(): string
  /** Its exit code. */
  readonly ended: Promise<number>
  stop(signal?: NodeJS.Signals): Promise<void>
}

export interface Place {
  at(...names: string[]): string
  /** A folder of that name in it. */
  folder(...names: string[]): string
  start(name: string, core: Core, argv: readonly string[]): Part
  /** What is to be done at the end, the last first. */
  atEnd(close: () => unknown): void
  close(): Promise<void>
}

export const openPlace = (): Place => {
  // Short: a unix socket's path ends at 107 bytes.
  const root = mkdtempSync(join(tmpdir(), 'postern-b-'))
  const closers: (() => unknown)[] = [
    () => {
      rmSync(root, { recursive: true, force: true })
    },
  ]
  const at = (...names: string[]): string => join(root, ...names)
  let closed = false
  /** A scenario that is stopped in the middle must not start anything more. */
  const stillOpen = (): void => {
    if (closed) throw new Error('the bench was stopped')
  }
  return {
    at,
    folder(...names) {
      stillOpen()
      mkdirSync(at(...names), { recursive: true, mode: 0o700 })
      return at(...names)
    },
    start(name, core, argv) {
      stillOpen()
      const [file = '', ...rest] = [...pin(core), ...DIES_WITH_US, ...argv]
      // A test runner's own options for Node would be measured along.
      const { NODE_OPTIONS: _, ...env } = process.env
      const child = spawn(file, rest, { stdio: ['ignore', 'pipe', 'pipe'], env })
      let text = ''
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (more: string) => {
          text = (text + more).slice(-MOST_TEXT)
        })
      }
      const ended = once(child, 'close').then(([code]: unknown[]) => Number(code ?? 1))
      const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
        if (child.exitCode !== null || child.signalCode !== null) return
        child.kill(signal)
        const stubborn = setTimeout(() => child.kill('SIGKILL'), 10_000)
        await ended
        clearTimeout(stubborn)
      }
      closers.push(() => stop())
      return { name, pid: child.pid ?? 0, child, said: () => text, ended, stop }
    },
    atEnd: (close) => void closers.push(close),
    async close() {
      closed = true
      for (const close of closers.splice(0).toReversed()) await close()
    },
  }
}

/** Polls for so many seconds; a process that ends meanwhile is the fault, with what it said. */
export const until = async (
  part: Part,
  holds: () => unknown,
  limit = START_LIMIT,
): Promise<void> => {
  const deadline = performance.now() / 1000 + limit
  while (!(await holds())) {
    const { child, name } = part
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`${name} ended: ${part.said()}`)
    }
    if (performance.now() / 1000 > deadline) throw new Error(`${name}: too late: ${part.said()}`)
    await pause(20)
  }
}
