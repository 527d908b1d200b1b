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

/** Ends a command: the message goes to stderr, behind the command's name. */
export class Stop extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.name = 'Stop'
    this.code = code
  }
}

/** Ends it with the usage as well. */
export class WrongUsage extends Stop {
  constructor(message: string) {
    super(USAGE, message)
    this.name = 'WrongUsage'
  }
}
