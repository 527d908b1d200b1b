// What a command may do to the outside world: print lines, and read what is piped in. Commands get it as an
// argument and never touch `process` themselves, so that a test sees exactly what an operator sees.

export interface Io {
  /** On stdout: the answer, nothing else. Lines without the last line break. */
  out(line: string): void
  /** On stderr: what went wrong, and the cure. */
  err(line: string): void
  readonly stdin: AsyncIterable<Uint8Array> & { readonly isTTY?: boolean | undefined }
}

// Exit codes, by sysexits.h where it has one.
export const OK = 0
/** The answer is no, or something was found. */
export const REFUSED = 1
export const USAGE = 64
export const FAULT = 70
export const IO_FAILED = 74
/** The unit does not restart on it. */
export const BAD_CONFIG = 78

/** Ends a command: the message goes to stderr, after the command's name. */
export class Stop extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.name = 'Stop'
    this.code = code
  }
}

/** Also shows the usage. */
export class WrongUsage extends Stop {
  constructor(message: string) {
    super(USAGE, message)
    this.name = 'WrongUsage'
  }
}
