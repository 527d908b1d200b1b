// The frame of a command: a table says what may follow its name. This is the one place that parses arguments by
// it, answers --help from it, and turns what a verb throws into lines and an exit code. Its messages never repeat
// an operand or a value: either may be a password or a token in the wrong place.

import { parseArgs } from 'node:util'

import { CdrError } from '../calls/cdr-file.ts'
import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE } from '../config/load.ts'
import { suggest } from '../config/suggest.ts'
import { StartError } from '../daemon/open-state.ts'
import { LockError } from '../files/lock-file.ts'
import { asOwner } from '../files/owner.ts'
import { StoreError } from '../store/store.ts'
import { BAD_CONFIG, type Io, IO_FAILED, OK, REFUSED, Stop, WrongUsage } from './io.ts'

/**
 * What the usage calls a value, in brackets where it may be left out; `true`: an option without a value.
 * An option of two verbs has a value in both or in none.
 */
type Options = Readonly<Record<string, string | true>>

type Value<Shown> = Shown extends true
  ? boolean
  : Shown extends `[${string}`
    ? string | undefined
    : string

/** The arguments of one call, as the verb's row names them. */
interface Asked<O extends Options, P extends readonly string[]> {
  readonly values: { readonly [Name in keyof O]: Value<O[Name]> }
  readonly operands: { readonly [At in keyof P]: Value<P[At]> }
  /** The configuration: --config, or an operand [FILE], or the one of this host. */
  readonly file: string
}

interface Verb<O extends Options = Options, P extends readonly string[] = readonly string[]> {
  readonly operands?: P
  readonly options: O
  /** The exit code. */
  run(asked: Asked<O, P>, io: Io): Promise<number> | number
}

export interface Command {
  readonly name: string
  /** One line for `postern --help`. */
  readonly summary: string
  /** By name; a command without verbs has a single one, without a name. */
  readonly verbs: Readonly<Record<string, Verb>>
  /** Lines below the usage. */
  readonly notes?: readonly string[]
}

/** A row of a command's table; its types make those of what `run` gets. */
export const verb = <const O extends Options, const P extends readonly string[] = readonly []>(
  row: Verb<O, P>,
): Verb => row

const isOptional = (shown: string): boolean => shown.startsWith('[')
const isList = (shown: string | true): boolean => shown !== true && /,…\]?$/.test(shown)

const showOption = ([name, shown]: [string, string | true]): string => {
  if (shown === true) return `[--${name}]`
  return isOptional(shown) ? `[--${name} ${shown.slice(1)}` : `--${name} ${shown}`
}

/** One line a verb. */
export const usageLines = ({ name, verbs }: Command): string[] =>
  Object.entries(verbs).map(([called, { operands = [], options }]) =>
    ['postern', name, called, ...operands, ...Object.entries(options).map(showOption)]
      .filter((word) => word !== '')
      .join(' '),
  )

/** Of one verb alone, where `only` names it. */
const usageOf = (command: Command, only: string | undefined): string => {
  const names = Object.keys(command.verbs)
  const lines = usageLines(command).filter((_, at) => only === undefined || only === names[at])
  const notes = (command.notes ?? []).map((note) => `    ${note}`)
  return `usage: ${[...lines, ...notes].join('\n       ')}`
}

export const didYouMean = (word: string, names: readonly string[], before = ''): string => {
  const near = suggest(word, names)
  return near === undefined ? '' : `: did you mean ${before}${near}?`
}

type Token = NonNullable<ReturnType<typeof parseArgs>['tokens']>[number]

const tokenize = (verbs: readonly Verb[], argv: readonly string[]): Token[] => {
  const options = Object.fromEntries(
    verbs
      .flatMap((row) => Object.entries(row.options))
      .map(([name, shown]) => [name, { type: shown === true ? 'boolean' : 'string' } as const]),
  )
  // Not strict: the parser's own messages repeat what was typed, a password perhaps.
  return parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  }).tokens
}

const findVerb = (verbs: Command['verbs'], name: string | undefined): Verb => {
  const found = name !== undefined && Object.hasOwn(verbs, name) ? verbs[name] : undefined
  if (found) return found
  if (name === undefined) throw new WrongUsage('a verb is missing')
  throw new WrongUsage(`there is no such verb${didYouMean(name, Object.keys(verbs))}`)
}

const readOperands = (shown: readonly string[], words: readonly string[]): void => {
  if (words.length > shown.length) {
    throw new WrongUsage(
      shown.length === 0 ? 'takes options only' : `takes one ${shown.join(' ')} and options only`,
    )
  }
  const missing = shown.find((operand, at) => (words[at] ?? '') === '' && !isOptional(operand))
  if (missing !== undefined) throw new WrongUsage(`${missing} is missing`)
}

const readOptions = (
  options: Options,
  tokens: readonly Token[],
): Record<string, string | boolean> => {
  const rows = Object.entries(options)
  const values: Record<string, string | boolean> = Object.fromEntries(
    rows.filter(([, shown]) => shown === true).map(([name]) => [name, false]),
  )
  for (const token of tokens) {
    if (token.kind !== 'option') continue
    const { name, rawName, value, inlineValue } = token
    const shown = Object.hasOwn(options, name) ? options[name] : undefined
    if (shown === undefined) {
      const near = didYouMean(name, Object.keys(options), '--')
      throw new WrongUsage(`there is no option ${JSON.stringify(rawName)} here${near}`)
    }
    if (shown === true && value !== undefined) throw new WrongUsage(`${rawName} takes no value`)
    // `--config --json` lacks its value; one that begins with a dash is written --config=--json.
    if (shown !== true && (value === undefined || (!inlineValue && /^-./.test(value)))) {
      throw new WrongUsage(`${rawName} lacks its value`)
    }
    // A list may be given at once or one by one: that the last word alone counts would be said by nobody.
    const before = values[name]
    values[name] = isList(shown) && before !== undefined ? `${before},${value}` : (value ?? true)
  }
  const missing = rows.find(
    ([name, shown]) => shown !== true && !isOptional(shown) && values[name] === undefined,
  )
  if (missing) throw new WrongUsage(`--${missing[0]} ${missing[1]} is missing`)
  return values
}

const isFileError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'syscall' in error && 'code' in error

const NEEDS_ROOT =
  'run this as root (sudo); root works as the owner of that folder: if you are root, look at what stands there'

const FILE_CURES: Readonly<Record<string, string>> = {
  EACCES: NEEDS_ROOT,
  EPERM: NEEDS_ROOT,
  ENOENT: 'no such file or folder',
  ENOSPC: 'make room on that disk; nothing was changed',
  EROFS: 'that disk cannot be written; nothing was changed',
}

/** Rethrows a fault of the program: main.ts shows it. */
const explain = (error: unknown, title: string): { code: number; text: string } => {
  if (error instanceof ConfigError || error instanceof StartError) {
    return { code: BAD_CONFIG, text: error.message }
  }
  if (error instanceof Stop) return { code: error.code, text: `${title}: ${error.message}` }
  if (error instanceof CdrError) return { code: REFUSED, text: `${title}: ${error.message}` }
  if (error instanceof LockError || error instanceof StoreError) {
    return { code: IO_FAILED, text: `${title}: ${error.message}` }
  }
  if (!isFileError(error)) throw error
  const { code = '', path = 'a file' } = error
  const cure = FILE_CURES[code] ?? 'check that this is the right file and can be used'
  return { code: IO_FAILED, text: `${title}: ${path}: ${code}: ${cure}` }
}

/** Parses the arguments by the command's table and runs the verb. Resolves to the exit code. */
export const runCommand = async (
  command: Command,
  argv: readonly string[],
  io: Io,
): Promise<number> => {
  const { name, verbs } = command
  const only = argv.find((word) => Object.hasOwn(verbs, word))
  if (argv.includes('-h') || argv.includes('--help')) {
    io.out(usageOf(command, only))
    return OK
  }
  try {
    const tokens = tokenize(Object.values(verbs), argv)
    const words = tokens.flatMap((token) => (token.kind === 'positional' ? [token.value] : []))
    const { operands = [], options, run } = findVerb(verbs, '' in verbs ? '' : words.shift())
    const values = readOptions(options, tokens)
    readOperands(operands, words)
    const file = String(values['config'] ?? words[operands.indexOf('[FILE]')] ?? CONFIG_FILE)
    const ask = () => run({ values, operands: words, file }, io)
    // The daemon is whoever starts it. Anything else does what the configuration says.
    return await (command.name === 'serve' ? ask() : asOwner(file, ask, true))
  } catch (error) {
    const title = ['postern', name, ...(only === undefined ? [] : [only])].join(' ')
    const { code, text } = explain(error, title)
    io.err(text)
    if (error instanceof WrongUsage) io.err(usageOf(command, only))
    return code
  }
}
