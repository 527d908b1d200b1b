// Starts and leads the processes of puppet.ts. It leaves none of them behind.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

const PUPPET = fileURLToPath(new URL('./puppet.ts', import.meta.url))

export interface Puppet {
  pid: number
  /** What it said first: `open`, or why it could not. */
  opening: string
  /** Has it do something; what the store answered. */
  ask(act: string): Promise<string>
  /** Ends it without a warning; everything that it still said. */
  kill(): Promise<string[]>
}

/** `before` is put before the command: `unshare …`, or a shell that sets the stage and then runs "$@". */
export const startPuppet = async (
  t: Test,
  file: string,
  { before = [], prefix = 'p' }: { before?: string[]; prefix?: string } = {},
): Promise<Puppet> => {
  const [command, ...args] = [...before, process.execPath, PUPPET, file, prefix]
  const child: ChildProcess = spawn(command, args, {
    // Without the runner's own variables: a coverage hook is no part of what is killed here.
    env: { PATH: process.env['PATH'] },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const { stdin, stdout } = child
  if (!stdin || !stdout) throw new Error('a puppet has pipes')
  const lines = createInterface({ input: stdout })
  const exited = once(child, 'close')
  const read = lines[Symbol.asyncIterator]()
  const next = async (): Promise<string> => {
    const { value, done } = await read.next()
    return done ? 'gone' : value
  }
  const kill = async (): Promise<string[]> => {
    child.kill('SIGKILL')
    const rest: string[] = []
    for (;;) {
      const { value, done } = await read.next()
      if (done) break
      rest.push(value)
    }
    await exited
    return rest
  }
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return {
    pid: child.pid ?? 0,
    opening: await next(),
    async ask(act) {
      stdin.write(`${act}\n`)
      return next()
    },
    kill,
  }
}

/** For what a machine may lack: the user sees a skip with its reason, CI a failure. */
export const needs = (command: string, args: string[], what: string): { skip: string | false } => {
  const there = spawnSync(command, args, { stdio: 'ignore' }).status === 0
  return { skip: !there && process.env['CI'] !== 'true' ? `needs ${what}` : false }
}

/** Mounts of its own, which go with the process. Root may, and most kernels let others in a user namespace. */
export const NAMESPACE =
  process.getuid?.() === 0
    ? ['unshare', '--mount']
    : ['unshare', '--user', '--map-root-user', '--mount']
