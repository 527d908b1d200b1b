// When files are read again, what is in force meanwhile, and what is said of them. With looks by hand instead of a second's
// wait, and with states instead of files.
import { setImmediate as soon } from 'node:timers/promises'
import t, { type Test } from 'tap'

import type { UsersDiff } from '../../src/users/diff-users.ts'
import { holdUsers } from '../../src/users/hold-users.ts'
import type { HeldUser } from '../../src/users/source.ts'

interface Disk {
  mark: string
  names: string[]
  problems: string[]
  warnings: string[]
}

const userOf = (name: string): HeldUser & { secret: string } => ({
  name: name.replace('!', ''),
  role: 'user',
  displayName: name,
  credential: 'v1',
  disabled: name.startsWith('!'),
  secret: 'of the source',
})

const open = async (t: Test, given: Partial<Disk> = {}) => {
  const disk: Disk = { mark: 'a', names: ['anna'], problems: [], warnings: [], ...given }
  const diffs: UsersDiff[] = []
  const said: string[] = []
  const warned: string[] = []
  const heldBack: string[] = []
  let reads = 0
  let fault: Error | undefined
  let look = async (): Promise<void> => {}
  let stopped = false
  const users = await holdUsers(
    '/etc/x',
    async () => {
      reads++
      const { mark, names, problems, warnings } = disk
      await soon()
      return {
        users: new Map(names.map(userOf).map((user) => [user.name, user])),
        problems,
        warnings,
        mark,
        readMark: async () => disk.mark,
      }
    },
    {
      async onChange(diff) {
        diffs.push(diff)
        await soon()
        if (fault) throw fault
      },
      onProblem: (problems) => void said.push(problems.join('|')),
      onWarning: (line) => void warned.push(line),
      onHeldBack: (removed, of) => void heldBack.push(`${removed} of ${of}`),
      every(seconds, next) {
        t.equal(seconds, 1)
        look = next
        return () => (stopped = true)
      },
    },
  )
  reads = 0
  return {
    users,
    disk,
    diffs,
    said,
    warned,
    heldBack,
    look: () => look(),
    reads: () => reads,
    break: (error: Error | undefined) => (fault = error),
    isStopped: () => stopped,
  }
}

void t.test('who is held, and what of them is told', async (t) => {
  const { users } = await open(t, { names: ['anna', '!bob'] })
  const anna = { name: 'anna', role: 'user', displayName: 'anna', credential: 'v1' }
  t.same(users.peek('anna'), { user: anna }, 'and no secret')
  for (const name of ['anna', 'bob', 'carl', '__proto__', ''])
    t.same(await users.lookup(name), users.peek(name), name)
  t.same(users.peek('bob'), { refused: 'disabled' })
  t.same(users.peek('__proto__'), { refused: 'unknown_user' })
  t.same([...users.names()], ['anna', 'bob'])
  t.match(users.find('bob'), { secret: 'of the source' })
  t.equal(users.find('carl'), undefined)
})

void t.test('what is broken does not open, and every problem is named', async (t) => {
  await t.rejects(open(t, { problems: ['x:1: a', 'x:2: b'] }), {
    name: 'ConfigError',
    problems: ['x:1: a', 'x:2: b'],
  })
})

void t.test('a change is read once two looks agree', async (t) => {
  const { disk, look, reads, diffs, users } = await open(t, { names: ['carl', 'anna'] })
  await look()
  t.equal(reads(), 0, 'nothing has changed')
  disk.names = ['bob', 'carl']
  for (const mark of ['b', 'c']) {
    disk.mark = mark
    await look()
    t.equal(reads(), 0, 'still being written')
  }
  await look()
  t.equal(reads(), 1)
  t.same(diffs, [
    [
      { name: 'bob', change: 'added' },
      { name: 'anna', change: 'removed' },
    ],
  ])
  t.same(users.peek('anna'), { refused: 'unknown_user' })
  await look()
  t.equal(reads(), 1, 'and not again')
})

void t.test('a broken state changes nothing and is told once', async (t) => {
  const { disk, look, diffs, said, users } = await open(t)
  Object.assign(disk, { mark: 'b', names: [], problems: ['x:1: broken'] })
  for (let second = 0; second < 4; second++) await look()
  t.same(await users.reread(true), ['x:1: broken'])
  t.same(said, ['x:1: broken'])
  t.match(users.peek('anna'), { user: { name: 'anna' } }, 'the last good state stays')
  Object.assign(disk, { names: ['anna'], problems: [] })
  t.same(await users.reread(true), [])
  t.same(diffs, [[]], 'whole again, and nothing changed')
  disk.problems = ['x:1: broken']
  await users.reread(true)
  t.equal(said.length, 2, 'the same problem anew is told anew')
})

void t.test('a change that fails is handed over again at each look', async (t) => {
  const { disk, look, diffs, said, users, break: breakDown } = await open(t)
  breakDown(new Error('the store is away'))
  Object.assign(disk, { mark: 'b', names: [] })
  await t.rejects(users.reread(true), { message: 'the store is away' })
  t.same(users.peek('anna'), { refused: 'unknown_user' }, 'in force all the same')
  for (let second = 0; second < 3; second++) await look()
  t.same(said, ['/etc/x: its changes could not be applied: retrying every second'])
  breakDown(undefined)
  await look()
  t.equal(diffs.length, 4)
  for (const diff of diffs) t.same(diff, [{ name: 'anna', change: 'removed' }])
  await look()
  t.equal(diffs.length, 4, 'and then no more')
  await users.reread(true)
  t.same(diffs[4], [], 'each change is told once')
})

void t.test('a change that failed is owed whatever the files say next', async (t) => {
  const all = Array.from({ length: 12 }, (_, at) => `user${at}`)
  const {
    disk,
    look,
    diffs,
    said,
    heldBack,
    reads,
    users,
    break: breakDown,
  } = await open(t, {
    names: all,
  })
  breakDown(new Error('the store is away'))
  Object.assign(disk, { mark: 'b', names: all.slice(1) })
  await t.rejects(users.reread(true))
  Object.assign(disk, { mark: 'c', problems: ['x:1: broken'] })
  for (let second = 0; second < 5; second++) await look()
  Object.assign(disk, { mark: 'd', names: [], problems: [] })
  for (let second = 0; second < 5; second++) await look()
  t.equal(reads(), 3, 'each state of the files is read once')
  t.equal(heldBack.length, 1)
  t.equal(said.filter((line) => line === 'x:1: broken').length, 1)
  const tries = diffs.length
  breakDown(undefined)
  await look()
  t.equal(diffs.length, tries + 1)
  t.same(diffs.at(-1), [{ name: 'user0', change: 'removed' }])
  await look()
  t.equal(diffs.length, tries + 1, 'and then no more')
})

void t.test('looks do not pile up, and readings wait for each other', async (t) => {
  const { disk, look, reads, diffs, users, break: breakDown } = await open(t)
  disk.mark = 'b'
  await look()
  const first = look()
  await look()
  await first
  t.equal(reads(), 1)
  disk.names = ['bob']
  breakDown(new Error('of this one'))
  const refused = users.reread(true)
  const next = users.reread(true)
  await t.rejects(refused, /of this one/)
  breakDown(undefined)
  t.same(await next, [], 'the one before does not stop it')
  t.equal(diffs.length, 3)
})

void t.test('warnings are told once for each set of them', async (t) => {
  const { disk, warned, users } = await open(t, { warnings: ['a', 'b'] })
  await users.reread(true)
  t.same(warned, ['a', 'b'])
  disk.warnings = ['b']
  await users.reread(true)
  t.same(warned, ['a', 'b', 'b'])
})

void t.test('nothing is said once it is closed', async (t) => {
  const { disk, said, diffs, users, isStopped } = await open(t)
  users.close()
  t.ok(isStopped())
  disk.names = []
  await users.reread(true)
  disk.problems = ['broken']
  await users.reread(true)
  t.same([said, diffs], [[], []])
})

void t.test('what would remove most users is held back until it is meant', async (t) => {
  const all = Array.from({ length: 12 }, (_, at) => `user${at}`)
  const { disk, look, diffs, users, heldBack } = await open(t, { names: all })
  const write = async (names: string[], mark: string): Promise<void> => {
    Object.assign(disk, { names, mark })
    await look()
    await look()
  }
  await write([], 'empty')
  t.same([heldBack.splice(0), diffs, [...users.names()]], [['12 of 12'], [], all])
  for (let second = 1; second < 60; second++) await look()
  t.same(heldBack, [], 'said once')
  await look()
  t.same(heldBack.splice(0), ['12 of 12'], 'and again each minute')
  await write(all, 'whole again')
  for (let second = 0; second < 60; second++) await look()
  t.same([diffs.splice(0), heldBack], [[[]], []], 'as if nothing had been')

  await write(all.slice(7), 'five left')
  t.same(heldBack.splice(0), ['7 of 12'])
  await write(all.slice(6), 'half of them')
  t.same([heldBack, diffs.splice(0)[0]?.length], [[], 6])
  await write(all.slice(10), 'of six')
  t.same([heldBack, diffs.splice(0)[0]?.length], [[], 4], 'of so few most may go')

  await write([], 'none')
  t.same(heldBack.splice(0), ['2 of 2'])
  t.same(await users.reread(false), [])
  t.same(heldBack.splice(0), ['2 of 2'], 'whoever asks means something else')
  t.same(await users.reread(true), [])
  t.same([[...users.names()], diffs.splice(0)[0]?.length], [[], 2], 'somebody means it')
  await write([], 'a comment in an empty file')
  t.same([heldBack, diffs], [[], [[]]])
})

void t.test('a stranger has a stand-in among the users, the same each time', async (t) => {
  const names = ['anna', 'bob', 'carl']
  const { disk, users } = await open(t, { names })
  const strangers = Array.from({ length: 100 }, (_, at) => `stranger ${at}`)
  const standIns = strangers.map((name) => users.standIn(name)?.name)
  t.same(new Set(standIns), new Set(names), 'each has some')
  t.same(
    strangers.map((name) => users.standIn(name)?.name),
    standIns,
  )
  disk.names = []
  await users.reread(true)
  t.equal(users.standIn('stranger'), undefined)
})
