// Users kept in files and held in memory: no check ever waits for a disk. The files are looked at every second, and
// read again once a change has settled. Broken files change nothing: the last good state stays in force.
import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { ConfigError } from '../config/config-error.ts'
import { diffUsers, type UsersDiff } from './diff-users.ts'
import type { HeldUser, User } from './source.ts'

/** What the files hold, or what is wrong with them. */
export interface Reading<Held extends HeldUser> {
  users: ReadonlyMap<string, Held>
  /** `file:line: what is wrong: the cure`. If there are any, `users` does not count. */
  problems: readonly string[]
  /** What the operator should know, although the files are in force. */
  warnings: readonly string[]
  /** What the files looked like before they were read; '' if they must be read again at the next look. */
  mark: string
  /** What they look like now. */
  readMark(): Promise<string>
}

export interface SourceEvents {
  /**
   * Called after every good reading but the first, with the new state already in force; `reread` waits for it.
   * The diff is empty if only a comment changed, or a broken file is whole again. If it rejects, it is
   * called again a second later with the same changes.
   */
  onChange(diff: UsersDiff): void | Promise<void>
  /** Called once for each broken state. */
  onProblem(problems: readonly string[]): void
  /** Called once for each warning, and again only after the set of warnings has changed. */
  onWarning(line: string): void
  /**
   * A change that the watch found would remove so many of the users, and is not in force: a full disk or an editor
   * empties a file for a moment, and an end of a session is for good. Called again each minute until it is meant
   * (`reread`) or undone.
   */
  onHeldBack(removed: number, of: number): void
  every(seconds: number, look: () => Promise<void>): () => void
}

const LOOK_EVERY = 1 // second
const SAY_AGAIN = 60 // looks, while a change is held back
const MANY = 10 // users: of fewer an operator may well remove half

/** A text that differs once the file has changed. */
export const readFileMark = (file: string): Promise<string> =>
  stat(file, { bigint: true }).then(
    // ctime too: it changes with the mode, and nobody can set it back
    ({ ino, size, mtimeNs, ctimeNs }) => [ino, size, mtimeNs, ctimeNs].join(' '),
    () => 'away',
  )

/** All of them, or more than half of many: rather a full disk, or an editor, than a wish. */
export const isMassRemoval = (removed: number, of: number): boolean =>
  removed > 0 && (removed === of || (of >= MANY && removed * 2 > of))

/** How many users a change removes, where it is a mass removal; else 0. */
const countMassRemoval = (
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
): number => {
  const removed = [...before.keys()].filter((name) => !after.has(name)).length
  return isMassRemoval(removed, before.size) ? removed : 0
}

/** `file` is for messages. Throws a ConfigError with every problem: a daemon does not start on broken files. */
export const holdUsers = async <Held extends HeldUser>(
  file: string,
  load: () => Promise<Reading<Held>>,
  events: SourceEvents,
) => {
  let reading = await load() // the last one, good or broken
  if (reading.problems.length > 0) throw new ConfigError(reading.problems)
  let { users } = reading // in force
  let announced = users // what onChange was last told of
  let pending = false // onChange has yet to take it
  let lastSeen = reading.mark
  let reported = ''
  let warned = ''
  let removing = 0 // users, by the last reading, which is held back for it
  let saidLooks = 0 // since that was said
  let looking = false
  let closed = false
  let tail: Promise<unknown> = Promise.resolve()

  const report = (problems: readonly string[]): void => {
    const text = problems.join('\n')
    if (text !== '' && text !== reported && !closed) events.onProblem(problems)
    reported = text
  }
  const warn = (): void => {
    const text = reading.warnings.join('\n')
    if (text !== warned) for (const line of reading.warnings) events.onWarning(line)
    warned = text
  }
  const sayHeldBack = (): void => {
    saidLooks = 0
    events.onHeldBack(removing, users.size)
  }
  const announce = async (): Promise<void> => {
    pending = true
    await events.onChange(diffUsers(announced, users))
    announced = users
    pending = false
    if (reading.problems.length === 0) report([])
  }
  const read = async (isMeant: boolean): Promise<readonly string[]> => {
    reading = await load()
    removing = 0
    const { problems } = reading
    if (problems.length > 0) report(problems)
    if (problems.length > 0 || closed) return problems
    warn()
    removing = isMeant ? 0 : countMassRemoval(users, reading.users)
    if (removing > 0) {
      report([]) // the file can be read: if it breaks again, that is said again
      sayHeldBack()
      return problems
    }
    // In force before onChange: a login in between would else open a session that nothing ends.
    ;({ users } = reading)
    await announce()
    return problems
  }
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const turn = tail.then(work)
    tail = turn.catch(() => undefined)
    return turn
  }
  const readInTurn = (isMeant: boolean) => inTurn(() => read(isMeant))
  /**
   * A change is read once two looks agree: an editor writes a file in place, a PBX several one after the other, and
   * reading half of them would log the other half of the users out.
   */
  const look = async (): Promise<void> => {
    const mark = await reading.readMark()
    const settled = mark === lastSeen
    lastSeen = mark
    if (settled && mark !== reading.mark) await readInTurn(false)
    // What is in force is owed whatever the files say now: a broken or held-back one must not forget it.
    else if (settled && pending) await inTurn(announce)
    else if (removing > 0 && ++saidLooks >= SAY_AGAIN) sayHeldBack()
  }

  warn()
  const stop = events.every(LOOK_EVERY, async () => {
    if (looking) return // looks must not pile up behind a disk that hangs
    looking = true
    try {
      await look()
    } catch {
      report([`${file}: its changes could not be applied: retrying every second`])
    } finally {
      looking = false
    }
  })

  let crowd = { of: users, all: [...users.values()] }
  /** One of them for a name that nobody has: the same one each time, while the users stay as they are. */
  const standIn = (stranger: string): Held | undefined => {
    if (crowd.of !== users) crowd = { of: users, all: [...users.values()] }
    return crowd.all[
      createHash('sha256').update(stranger).digest().readUInt32BE() % crowd.all.length
    ]
  }

  const peek = (username: string): { user: User } | { refused: 'unknown_user' | 'disabled' } => {
    const user = users.get(username)
    if (user === undefined) return { refused: 'unknown_user' }
    if (user.disabled) return { refused: 'disabled' }
    const { name, role, displayName, credential, credentials, number } = user // and nothing of the secret
    const known: User = { name, role, displayName, credential }
    if (credentials) known.credentials = credentials
    if (number !== undefined) known.number = number
    return { user: known }
  }
  return {
    find: (name: string) => users.get(name),
    standIn,
    peek,
    lookup: async (name: string) => peek(name),
    names: () => users.keys(),
    reread: readInTurn,
    close(): void {
      closed = true
      stop()
    },
  }
}
