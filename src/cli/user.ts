// `postern user`: who may log in, by the users file. The running daemon is told at once, so that somebody
// disabled is out before the command ends. A password never stands in argv or in any output.
import { readFileSync, statSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { type Cost, DEFAULT_COST, findPasswordProblem, hashPassword } from '../passwords/hash.ts'
import { addUser, type Edit, removeUser, setDisabled, setPassword } from '../users/edit-users.ts'
import { LockError } from '../files/lock-file.ts'
import { findUserProblem, parseUsers } from '../users/parse-users.ts'
import { rewriteUsersFile } from '../users/rewrite-users-file.ts'
import { askDaemon } from './control-client.ts'
import { BAD_CONFIG, type Command, type Io, IO_FAILED, OK, REFUSED, USAGE } from './io.ts'
import { type Answer, isTerminal, promptHidden, readPiped } from './prompt.ts'
import { formatUsers, toUserRow } from './user-list.ts'

const OPTIONS = {
  config: { type: 'string' },
  'users-file': { type: 'string' },
  role: { type: 'string' },
  'display-name': { type: 'string' },
  'password-stdin': { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

type Values = {
  -readonly [Name in keyof typeof OPTIONS]?: (typeof OPTIONS)[Name]['type'] extends 'string'
    ? string
    : boolean
}

interface Verb {
  /** Beside --config, --users-file and --help. */
  options: readonly (keyof typeof OPTIONS)[]
  password?: true
  /** The file need not be there. */
  creates?: true
  edit(text: string, name: string, hash: string, values: Values): Edit
  done: string
  already?: string
}

const VERBS: Readonly<Record<string, Verb>> = {
  add: {
    options: ['role', 'display-name', 'password-stdin'],
    password: true,
    creates: true,
    edit: (text, name, hash, values) =>
      addUser(text, {
        name,
        hash,
        role: values.role ?? 'user',
        displayName: values['display-name'] ?? '',
      }),
    done: 'added',
  },
  password: {
    options: ['password-stdin'],
    password: true,
    edit: setPassword,
    done: 'has a new password',
  },
  disable: {
    options: [],
    edit: (text, name) => setDisabled(text, name, true),
    done: 'disabled',
    already: 'was disabled already',
  },
  enable: {
    options: [],
    edit: (text, name) => setDisabled(text, name, false),
    done: 'enabled',
    already: 'was enabled already',
  },
  remove: { options: [], edit: removeUser, done: 'removed' },
}

const CURES: Readonly<Record<string, string>> = {
  EACCES: 'run this as root (sudo)',
  EPERM: 'run this as root (sudo)',
  ENOSPC: 'make room on that disk; nothing was changed',
  EROFS: 'that disk cannot be written; nothing was changed',
}

const COMMANDS = `postern user add NAME [--role ROLE] [--display-name TEXT] [--password-stdin]
       postern user password NAME [--password-stdin]
       postern user disable|enable|remove NAME
       postern user list [--json]
       all of them: [--config FILE | --users-file FILE]`

export const user: Command = {
  name: 'user',
  summary: 'add, change and list the users of the users file',
  usage: COMMANDS,
  async run(argv, io) {
    try {
      return await runVerb(argv, io)
    } catch (error) {
      if (error instanceof Stop) {
        for (const line of error.lines) io.err(line)
        return error.status
      }
      if (error instanceof ConfigError) {
        for (const problem of error.problems) io.err(problem)
        return BAD_CONFIG
      }
      if (!isFileError(error) && !(error instanceof LockError)) throw error
      io.err(`postern user: ${error instanceof LockError ? error.message : explain(error)}`)
      return IO_FAILED
    }
  },
}

/** Ends the command with these lines on stderr. */
class Stop extends Error {
  readonly status: number
  readonly lines: readonly string[]
  constructor(status: number, lines: readonly string[]) {
    super('the command stops')
    this.status = status
    this.lines = lines
  }
}

/** Where the users are, and what the configuration says about them. */
interface Place {
  file: string
  cost: Cost
  control?: string
  roles?: ReadonlyMap<string, unknown>
}

async function runVerb(argv: readonly string[], io: Io): Promise<number> {
  const { values, verbName, names } = readArguments(argv)
  if (values.help === true) {
    io.out(`usage: ${COMMANDS}`)
    return OK
  }
  if (verbName === 'list') {
    allow(values, ['json'])
    if (names.length > 0) throw wrongUsage('list takes no name')
    return list(readPlace(values), values.json === true, io)
  }
  const verb = Object.hasOwn(VERBS, verbName) ? VERBS[verbName] : undefined
  if (verb === undefined) throw wrongUsage('add, password, disable, enable, remove or list?')
  allow(values, verb.options)
  const [name] = names
  // The extra word is not repeated: it may be the password.
  if (name === undefined || names.length > 1)
    throw wrongUsage('one name is needed (a password is asked for, or read by --password-stdin)')
  return change({ verb, name, values, place: readPlace(values) }, io)
}

function readArguments(argv: readonly string[]): {
  values: Values
  verbName: string
  names: string[]
} {
  if (argv.some((word) => word === '--password' || word.startsWith('--password=')))
    throw wrongUsage(
      'a password in the arguments is seen by every user of this host, and kept by the shell: leave it out to be asked, or pipe it in with --password-stdin',
    )
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      options: OPTIONS,
      allowPositionals: true,
    })
    const [verbName = '', ...names] = positionals
    return { values, verbName, names }
  } catch {
    throw wrongUsage('an option is unknown, or lacks its value')
  }
}

function allow(values: Values, options: readonly string[]): void {
  for (const option of Object.keys(values))
    if (!['config', 'users-file', ...options].includes(option))
      throw wrongUsage(`--${option} has no meaning here`)
}

function wrongUsage(problem: string): Stop {
  return new Stop(USAGE, [`postern user: ${problem}`, `usage: ${COMMANDS}`])
}

function readPlace(values: Values): Place {
  const file = values['users-file']
  if (file !== undefined && values.config !== undefined)
    throw wrongUsage('--users-file stands for a configuration: give one of the two')
  if (file !== undefined) return { file, cost: DEFAULT_COST }
  const config = loadConfig(values.config ?? CONFIG_FILE)
  return {
    file: config.usersFile,
    cost: config.passwords,
    control: config.listen.control,
    roles: config.roles,
  }
}

async function change(
  asked: { verb: Verb; name: string; values: Values; place: Place },
  io: Io,
): Promise<number> {
  const { verb, name, values, place } = asked
  if (verb.creates === true) checkNewUser(name, values, place)

  // Tried without a password first: nobody types one twice to hear that there is no such user.
  readEdit(
    verb.edit(decode(readUsers(place, verb.creates), place.file), name, '', values),
    name,
    place,
  )
  const password = verb.password === true ? await askPassword(name, values, io) : undefined
  const hash = password === undefined ? '' : hashPassword(password, place.cost)

  const { unchanged, left } = await rewriteUsersFile(place.file, (content = Buffer.alloc(0)) => {
    const before = decode(content, place.file)
    const { text } = readEdit(verb.edit(before, name, hash, values), name, place)
    const left = findProblems(text, place.file)
    // One that mends a broken line is welcome; any other would never be taken up.
    if (left.length > 0 && left.length >= findProblems(before, place.file).length)
      throw new ConfigError([...left, `${place.file}: nothing was changed: mend these lines first`])
    return text === before ? { unchanged: true, left } : { text, unchanged: false, left }
  })
  for (const problem of left) io.err(problem)
  warnIfOpen(place, io)

  const done = (unchanged ? verb.already : undefined) ?? verb.done
  return tell(place, `${name} ${done}`, io)
}

function checkNewUser(name: string, values: Values, { roles }: Place): void {
  const role = values.role ?? 'user'
  const problem = findUserProblem({ name, role, displayName: values['display-name'] ?? '' })
  if (problem !== undefined) throw wrongUsage(problem)
  // A role that is not configured has no rights at all: a slip would show only at the first refusal.
  if (roles !== undefined && !roles.has(role))
    throw wrongUsage(`the configuration has no such role: use ${[...roles.keys()].join(' or ')}`)
}

function readUsers({ file }: Place, creates?: true): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    if (!isFileError(error) || error.code !== 'ENOENT') throw error
    if (creates === true) return Buffer.alloc(0)
    throw new ConfigError([`${file}: no such file: make it with \`postern user add\``])
  }
}

function warnIfOpen({ file }: Place, io: Io): void {
  if ((statSync(file).mode & 0o004) !== 0)
    io.err(`${file}: every user of this host can read the hashes: chmod o= ${file}`)
}

/** An edit works on text: a byte that is not UTF-8 would come out as another one. */
function decode(content: Buffer, file: string): string {
  const text = content.toString('utf8')
  if (Buffer.from(text, 'utf8').equals(content)) return text
  throw new ConfigError(findProblems(content, file))
}

function findProblems(content: string | Buffer, file: string): readonly string[] {
  const parsed = parseUsers(Buffer.from(content), file)
  return 'problems' in parsed ? parsed.problems : []
}

function readEdit(edit: Edit, name: string, { file }: Place): { text: string } {
  if ('text' in edit) return edit
  throw new Stop(REFUSED, [
    edit.refused === 'unknown_user'
      ? `${name}: no such user in ${file}: see \`postern user list\``
      : `${name}: is in ${file} already: use \`postern user password\`, or remove it first`,
  ])
}

async function askPassword(name: string, values: Values, io: Io): Promise<string> {
  const answer =
    values['password-stdin'] === true ? await readPiped(io.stdin) : await promptTwice(name, io)
  const problem = 'problem' in answer ? answer.problem : findPasswordProblem(answer.given)
  if ('given' in answer && problem === undefined) return answer.given
  throw new Stop(USAGE, [`postern user: ${problem}`])
}

async function promptTwice(name: string, io: Io): Promise<Answer<string>> {
  const { stdin } = io
  if (!isTerminal(stdin))
    return { problem: 'there is no terminal to ask at: pipe the password in with --password-stdin' }
  const questions = [`New password for ${name} (not shown):`, 'The same once more:']
  const answer = await promptHidden(stdin, questions, (line) => io.err(line))
  if ('problem' in answer) return answer
  const [first = '', second] = answer.given
  return first === second
    ? { given: first }
    : { problem: 'the two passwords differ: nothing was changed' }
}

async function tell(place: Place, done: string, io: Io): Promise<number> {
  if (place.control === undefined) {
    io.out(`${done}; a running daemon sees the file change within seconds`)
    return OK
  }
  const told = await askDaemon(place.control, 'POST', '/users/reload')
  if (told === 'not_running') {
    io.out(`${done}; the daemon is not running: the change takes effect when it starts`)
    return OK
  }
  if ('problem' in told) return fail(told.problem)
  if (told.status !== 200)
    return fail(readText(told.body, 'error') ?? `it answered ${told.status}: see its log`)
  io.out(`${done}; ${countSessions(readField(told.body, 'ended'))}`)
  return OK

  function fail(why: string): number {
    io.out(`${done} in ${place.file}`)
    io.err('postern user: the running daemon did not take the change up:')
    for (const line of why.split('\n')) io.err(line)
    return IO_FAILED
  }
}

function countSessions(ended: unknown): string {
  if (typeof ended !== 'number' || ended === 0) return 'no sessions ended'
  return ended === 1 ? '1 session ended' : `${ended} sessions ended`
}

async function list(place: Place, json: boolean, io: Io): Promise<number> {
  const parsed = parseUsers(readUsers(place), place.file)
  if ('problems' in parsed) throw new ConfigError(parsed.problems)
  warnIfOpen(place, io)
  const ids = await askIds(place, io)
  const rows = [...parsed.users.values()].map((found) =>
    toUserRow(found, readField(ids, found.name)),
  )
  if (json) io.out(JSON.stringify(rows))
  else for (const line of formatUsers(rows)) io.out(line)
  return OK
}

/** The numbers that the store gave: only the running daemon knows them. */
async function askIds({ control }: Place, io: Io): Promise<unknown> {
  if (control === undefined) return undefined
  const told = await askDaemon(control, 'GET', '/users/ids')
  if (told === 'not_running') return undefined
  if ('body' in told) return readField(told.body, 'ids')
  io.err(`postern user: no ids: ${told.problem}`)
  return undefined
}

function readField(body: unknown, name: string): unknown {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, name)) return undefined
  return (body as Record<string, unknown>)[name]
}

function readText(body: unknown, name: string): string | undefined {
  const value = readField(body, name)
  return typeof value === 'string' ? value : undefined
}

function isFileError(error: unknown): error is NodeJS.ErrnoException & { code: string } {
  return error instanceof Error && 'syscall' in error && 'code' in error
}

function explain({
  code,
  path = 'the users file',
}: NodeJS.ErrnoException & { code: string }): string {
  return `${path}: ${code}: ${CURES[code] ?? 'see that the folder is there and can be written'}`
}
