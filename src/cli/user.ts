// `postern user`: who may log in, by the users file. The running daemon is told at once, so that somebody
// disabled is out before the command ends. A password never stands in argv or in any output.

import { isUtf8 } from 'node:buffer'
import { constants, readFileSync, statSync } from 'node:fs'

import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { asOwner } from '../files/owner.ts'
import { findPasswordProblem, hashPassword } from '../passwords/hash.ts'
import { readAsteriskUsers } from '../users/asterisk.ts'
import { addUser, type Edit, removeUser, setDisabled, setPassword } from '../users/edit-users.ts'
import { findUserProblem, parseUsers } from '../users/parse-users.ts'
import { rewriteUsersFile } from '../users/rewrite-users-file.ts'
import { type Command, verb } from './command.ts'
import { askDaemon, orderDaemon } from './control-client.ts'
import { type Io, IO_FAILED, OK, REFUSED, Stop, USAGE, WrongUsage } from './io.ts'
import { type Answer, isTerminal, promptHidden, readPiped } from './prompt.ts'
import { formatAccounts, formatUsers, toAccountRow, toUserRow } from './user-list.ts'

const findProblems = async (content: string | Buffer, file: string): Promise<readonly string[]> => {
  const parsed = await parseUsers(Buffer.from(content), file)
  return 'problems' in parsed ? parsed.problems : []
}

/** An edit works on text: a byte that is not UTF-8 would be written back as another. */
const decode = async (content: Buffer, file: string): Promise<string> => {
  if (isUtf8(content)) return content.toString()
  throw new ConfigError(await findProblems(content, file))
}

const readUsers = (file: string): Buffer | undefined => {
  try {
    // O_NONBLOCK: a FIFO in its place must not hang root's command.
    return readFileSync(file, { flag: constants.O_RDONLY | constants.O_NONBLOCK })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
}

const noUsers = (file: string): ConfigError =>
  new ConfigError([`${file}: no such file: make it with \`postern user add\``])

const warnIfOpen = (file: string, io: Io): void => {
  if ((statSync(file).mode & 0o004) !== 0)
    io.err(`${file}: every user of this host can read the hashes: chmod o= ${file}`)
}

const textOf = (edit: Edit, name: string, file: string): string => {
  if ('text' in edit) return edit.text
  throw new Stop(
    REFUSED,
    edit.refused === 'unknown_user'
      ? `${name}: no such user in ${file}: see \`postern user list\``
      : `${name}: is already in ${file}: use \`postern user password\`, or remove it first`,
  )
}

const promptTwice = async (name: string, { stdin, err }: Io): Promise<Answer<string>> => {
  if (!isTerminal(stdin))
    return { problem: 'there is no terminal to ask at: pipe the password in with --password-stdin' }
  const questions = [`New password for ${name} (not shown):`, 'Repeat it:']
  const answer = await promptHidden(stdin, questions, err)
  if ('problem' in answer) return answer
  const [first = '', second] = answer.given
  return first === second
    ? { given: first }
    : { problem: 'the two passwords differ: nothing was changed' }
}

const askPassword = async (name: string, isPiped: boolean, io: Io): Promise<string> => {
  const answer = isPiped ? await readPiped(io.stdin) : await promptTwice(name, io)
  const problem = 'problem' in answer ? answer.problem : findPasswordProblem(answer.given)
  if ('given' in answer && problem === undefined) return answer.given
  throw new Stop(USAGE, String(problem))
}

const countSessions = (ended: unknown): string => {
  if (typeof ended !== 'number' || ended === 0) return 'no sessions ended'
  return ended === 1 ? '1 session ended' : `${ended} sessions ended`
}

const tell = async ({ listen, users }: Config, done: string, io: Io): Promise<void> => {
  const told = await orderDaemon(listen.control, 'POST', '/users/reload').catch(
    (error: Error): never => {
      io.out(`${done} in ${users.file}`)
      throw new Stop(IO_FAILED, `the running daemon did not apply the change:\n${error.message}`)
    },
  )
  io.out(
    told
      ? `${done}; ${countSessions(told['ended'])}`
      : `${done}; the daemon is not running: the change takes effect when it starts`,
  )
}

interface Change {
  name: string
  /** The file need not be there. */
  creates?: true
  readPassword?: () => Promise<string>
  /** `hash`: of the new password, empty where none is read. */
  edit(text: string, name: string, hash: string): Edit
  done: string
  already?: string
}

const change = async (config: Config, asked: Change, io: Io): Promise<number> => {
  const { name, creates, readPassword, edit, done, already = done } = asked
  const { file } = config.users
  const { memoryKib: memory, passes } = config.passwords
  const found = await asOwner(file, () => readUsers(file))
  if (!found && creates !== true) throw noUsers(file)
  // Tried without a password first: nobody types one twice to hear that there is no such user.
  textOf(edit(await decode(found ?? Buffer.alloc(0), file), name, ''), name, file)
  const hash = readPassword ? hashPassword(await readPassword(), { memory, passes }) : ''

  const rewrite = async (content: Buffer = Buffer.alloc(0)) => {
    const before = await decode(content, file)
    const text = textOf(edit(before, name, hash), name, file)
    const left = await findProblems(text, file)
    // An edit that mends a broken line is welcome; any other would never be applied.
    if (left.length > 0 && left.length >= (await findProblems(before, file)).length)
      throw new ConfigError([...left, `${file}: nothing was changed: mend these lines first`])
    return text === before ? { unchanged: true, left } : { text, unchanged: false, left }
  }
  const { unchanged, left } = await asOwner(file, () => rewriteUsersFile(file, rewrite))
  for (const problem of left) io.err(problem)
  warnIfOpen(file, io)
  await tell(config, `${name} ${unchanged ? already : done}`, io)
  return OK
}

/** The numbers that the store gave: only the running daemon knows them. */
const askIds = async ({ listen }: Config, io: Io): Promise<Readonly<Record<string, unknown>>> => {
  const told = await askDaemon(listen.control, 'GET', '/users/ids')
  if (told === 'not_running') return {}
  if ('problem' in told) {
    io.err(`postern user list: no ids: ${told.problem}`)
    return {}
  }
  const { ids } = Object(told.body) as { ids?: unknown }
  return Object(ids) as Readonly<Record<string, unknown>>
}

const list = async (config: Config, json: boolean, io: Io): Promise<number> => {
  const { file } = config.users
  const found = await asOwner(file, () => readUsers(file))
  if (!found) throw noUsers(file)
  const parsed = await parseUsers(found, file)
  if ('problems' in parsed) throw new ConfigError(parsed.problems)
  warnIfOpen(file, io)
  const ids = await askIds(config, io)
  const rows = [...parsed.users.values()].map((user) => toUserRow(user, ids[user.name]))
  io.out(json ? JSON.stringify(rows) : formatUsers(rows))
  return OK
}

/** Everybody in Asterisk's files, those who are no users too. */
const listAccounts = async ({ asterisk }: Config, json: boolean, io: Io): Promise<number> => {
  const { found, problems, warnings } = await asOwner(asterisk.file, () =>
    readAsteriskUsers(asterisk),
  )
  if (problems.length > 0) throw new ConfigError(problems)
  for (const warning of warnings) io.err(`warning: ${warning}`)
  const rows = found.map(toAccountRow)
  io.out(json ? JSON.stringify(rows) : formatAccounts(rows))
  return OK
}

/** A verb that takes a name alone. */
const simple = (row: Omit<Change, 'name'>) =>
  verb({
    operands: ['NAME'],
    options: { config: '[FILE]' },
    run: ({ operands: [name], file }, io) => change(loadConfig(file), { ...row, name }, io),
  })

const checkNewUser = (
  { roles }: Config,
  given: { name: string; role: string; displayName: string },
): void => {
  const problem = findUserProblem(given)
  if (problem !== undefined) throw new WrongUsage(problem)
  // A role that is not configured has no rights at all: a slip would show only at the first refusal.
  if (!roles.has(given.role))
    throw new WrongUsage(
      `the configuration has no such role: use ${[...roles.keys()].join(' or ')}`,
    )
}

export const user: Command = {
  name: 'user',
  summary: 'add, change and list the users of the users file',
  notes: [
    'a password is asked for, or piped in by --password-stdin: every user of this host sees arguments',
  ],
  verbs: {
    add: verb({
      operands: ['NAME'],
      options: {
        role: '[ROLE]',
        'display-name': '[TEXT]',
        'password-stdin': true,
        config: '[FILE]',
      },
      run({ operands: [name], values, file }, io) {
        const config = loadConfig(file)
        const { role = 'user', 'display-name': displayName = '' } = values
        checkNewUser(config, { name, role, displayName })
        const asked: Change = {
          name,
          creates: true,
          readPassword: () => askPassword(name, values['password-stdin'], io),
          edit: (text, _, hash) => addUser(text, { name, hash, role, displayName }),
          done: 'added',
        }
        return change(config, asked, io)
      },
    }),
    password: verb({
      operands: ['NAME'],
      options: { 'password-stdin': true, config: '[FILE]' },
      run({ operands: [name], values, file }, io) {
        const asked: Change = {
          name,
          readPassword: () => askPassword(name, values['password-stdin'], io),
          edit: setPassword,
          done: 'has a new password',
        }
        return change(loadConfig(file), asked, io)
      },
    }),
    disable: simple({
      edit: (text, name) => setDisabled(text, name, true),
      done: 'disabled',
      already: 'was already disabled',
    }),
    enable: simple({
      edit: (text, name) => setDisabled(text, name, false),
      done: 'enabled',
      already: 'was already enabled',
    }),
    remove: simple({ edit: removeUser, done: 'removed' }),
    list: verb({
      options: { source: '[SOURCE]', json: true, config: '[FILE]' },
      run({ values: { json, source = 'file' }, file }, io) {
        if (source === 'asterisk') return listAccounts(loadConfig(file), json, io)
        if (source === 'file') return list(loadConfig(file), json, io)
        throw new WrongUsage('--source is file or asterisk: a service (http) has no list to show')
      },
    }),
  },
}
