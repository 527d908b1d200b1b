// A command as an operator runs it, without a process of its own: words in; lines and the exit code out.

import type { Command, Io } from '../../src/cli/io.ts'

export interface Ran {
  status: number
  out: string
  err: string
}

async function* pipe(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text)
}

export const runCommand = async (
  command: Command,
  argv: readonly string[],
  stdin = '',
): Promise<Ran> => {
  const out: string[] = []
  const err: string[] = []
  const io: Io = {
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    stdin: pipe(stdin),
  }
  const status = await command.run(argv, io)
  return { status, out: out.join('\n'), err: err.join('\n') }
}
