// Every problem of a config at once, as lines for an operator. It never carries a value that was found
// in the file: a secret may stand there, and these lines reach terminals and logs.

export class ConfigError extends Error {
  /** `file:line: setting: what is wrong and the cure`, in the order of the file. */
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}
