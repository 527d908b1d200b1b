// A command as an operator runs it, without a process of its own: words in; lines and the exit code out.

import { type Command, runCommand as runIn } from '../../src/cli/command.ts'
import type { Io } from '../../src/cli/io.ts'

export interface Ran {
  status: number
  out: string
  err: string
}

export async function* pipe(text: string | Uint8Array): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text)
}

export const capture = async (
  run: (io: Io) => Promise<number>,
  stdin: string | Io['stdin'] = '',
): Promise<Ran> => {
  const out: string[] = []
  const err: string[] = []
  const status = await run({
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    stdin: typeof stdin === 'string' ? pipe(stdin) : stdin,
  })
  return { status, out: out.join('\n'), err: err.join('\n') }
}

export const runCommand = (
  command: Command,
  argv: readonly string[],
  stdin?: string | Io['stdin'],
): Promise<Ran> => capture((io) => runIn(command, argv, io), stdin)
