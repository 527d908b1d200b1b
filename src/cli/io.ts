// What a command may do to the outside: print lines, and read what is piped in. Commands get it as an
// argument and never touch `process` themselves, so that a test sees exactly what an operator sees.

export interface Io {
  /** One line on stdout: the answer, nothing else. */
  out(line: string): void
  /** One line on stderr: what went wrong, and the cure. */
  err(line: string): void
  readonly stdin: AsyncIterable<Uint8Array> & { readonly isTTY?: boolean | undefined }
}

// Exit codes, by sysexits.h where it has one.
export const OK = 0
/** The answer is no, or something was found. */
export const REFUSED = 1
export const USAGE = 64
export const IO_FAILED = 74
/** The unit does not restart on it. */
export const BAD_CONFIG = 78

/** One row of the command table. */
export interface Command {
  readonly name: string
  /** One line for `postern --help`. */
  readonly summary: string
  readonly usage: string
  /** The exit code: 0, 1 refused, 64 wrong usage, 78 bad configuration (sysexits.h). */
  run(argv: readonly string[], io: Io): Promise<number>
}
