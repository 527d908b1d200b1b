// The users file as a source: real files, and looks that happen when the test says so.
import { appendFileSync, chmodSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { hashPassword } from '../../src/passwords/hash.ts'
import type { UsersDiff } from '../../src/users/diff-users.ts'
import { openUsersFile } from '../../src/users/file.ts'

const SECRET = hashPassword('secret', { memory: 7168, passes: 1 })
const OTHER = hashPassword('other', { memory: 7168, passes: 1 })

/** Verifies at once, and counts. */
function createPool() {
  const verified: string[] = []
  return {
    verified,
    verify: async (stored: string, password: string) => {
      verified.push(stored)
      return (stored === SECRET ? 'secret' : 'other') === password
    },
  }
}

function unexpected(): void {
  throw new Error('this must not be called')
}

async function open(
  t: Test,
  text: string,
  options: Partial<Parameters<typeof openUsersFile>[0]> = {},
) {
  const file = `${t.testdir({ users: text })}/users`
  chmodSync(file, 0o640)
  const diffs: UsersDiff[] = []
  const problems: (readonly string[])[] = []
  const warnings: string[] = []
  const pool = createPool()
  let lookNow = (): Promise<void> => Promise.reject(new Error('no look was asked for'))
  const source = await openUsersFile({
    file,
    pool,
    onChange: (diff) => void diffs.push(diff),
    onProblem: (found) => void problems.push(found),
    onHeldBack: unexpected,
    onWarning: (line) => void warnings.push(line),
    every: (seconds, look) => {
      t.equal(seconds, 1)
      lookNow = look
      return () => undefined
    },
    ...options,
  })
  t.teardown(() => source.close())
  return {
    source,
    file,
    diffs,
    problems,
    warnings,
    pool,
    /** A second goes by. */
    look: () => lookNow(),
  }
}

void t.test('authenticates against the file', async (t) => {
  const { source, pool } = await open(t, `201:${SECRET}:admin:Anna\n202:!${SECRET}\n`)
  const { credential } = await source
    .lookup('201')
    .then((found) => ('user' in found ? found.user : { credential: '' }))
  const anna = { name: '201', role: 'admin', displayName: 'Anna', credential, number: '201' }
  t.match(credential, /^[\w-]{16}$/)

  t.same(await source.authenticate('201', 'secret'), { user: anna })
  t.same(await source.authenticate('201', 'wrong'), { refused: 'wrong_password' })
  t.equal(pool.verified.length, 2)
  t.same(await source.authenticate('202', 'secret'), { refused: 'disabled' })
  t.same(await source.authenticate('202', 'wrong'), { refused: 'disabled' })
  t.equal(pool.verified.length, 4, 'a disabled user costs a hash like any other')
  t.same(await source.authenticate('203', 'secret'), { refused: 'unknown_user' })
  t.equal(pool.verified.length, 4, 'the hash for strangers is the business of the directory')

  for (const name of ['201', '202', '203', '__proto__', 'constructor', ''])
    t.same(source.peek(name), await source.lookup(name), name)
  t.same(source.peek('201'), { user: anna })
  t.same(source.peek('202'), { refused: 'disabled' })
  t.same(source.peek('__proto__'), { refused: 'unknown_user' })
  t.same([...source.names()], ['201', '202'])
  t.equal(source.name, 'file')
})

void t.test('a full queue judges nobody', async (t) => {
  const { source } = await open(t, `201:${SECRET}\n`, { pool: { verify: () => undefined } })
  t.same(await source.authenticate('201', 'secret'), {
    unavailable: 'hash_queue_full',
    retryAfter: 2,
  })
})

void t.test('a login that waited while its user changed gets the answer of today', async (t) => {
  const cases: [what: string, text: string, expected: object][] = [
    ['unchanged', `201:${SECRET}\n`, { user: { name: '201', role: 'user' } }],
    ['another role', `201:${SECRET}:admin\n`, { user: { name: '201', role: 'admin' } }],
    ['disabled', `201:!${SECRET}\n`, { refused: 'disabled' }],
    ['removed', '', { refused: 'unknown_user' }],
    ['another password', `201:${OTHER}\n`, { refused: 'wrong_password' }],
  ]
  for (const [what, text, expected] of cases) {
    const hashed = Promise.withResolvers<boolean>()
    const { source, file } = await open(t, `201:${SECRET}\n`, {
      pool: { verify: () => hashed.promise },
    })
    const answer = source.authenticate('201', 'secret')
    writeFileSync(file, text)
    await source.reread(true)
    hashed.resolve(true)
    t.match(await answer, expected, what)
  }
})

void t.test('a change is seen by itself, once it stands still', async (t) => {
  const { source, file, diffs, look } = await open(t, `201:${SECRET}\n`)
  await look()
  t.same(diffs, [], 'an unchanged file is not read')

  appendFileSync(file, `202:${SECRET}`)
  await look()
  t.same(diffs, [], 'somebody may still be writing')
  appendFileSync(file, ':admin\n')
  await look()
  t.same(diffs, [])
  await look()
  t.same(diffs, [[{ name: '202', change: 'added' }]])
  t.match(source.peek('202'), { user: { role: 'admin' } })

  writeFileSync(`${file}.new`, `201:${SECRET}\n`)
  renameSync(`${file}.new`, file)
  await look()
  await look()
  t.same(diffs[1], [{ name: '202', change: 'removed' }])
  await look()
  t.equal(diffs.length, 2)
})

void t.test(
  'a broken file changes nothing, is reported once, and is taken up when mended',
  async (t) => {
    const { source, file, diffs, problems, look } = await open(t, `201:${SECRET}\n`)
    writeFileSync(file, '201:plain\n')
    await look()
    await look()
    await look()
    t.match(problems, [[/users:1: the hash is neither/]])
    t.equal(problems.length, 1)
    t.match(source.peek('201'), { user: { name: '201' } }, 'the last good state stays')
    await source.reread(true)
    t.equal(problems.length, 1)

    rmSync(file)
    await look()
    await look()
    await look()
    t.match(problems[1], [/no such file: make it with `postern user add`/])
    t.equal(problems.length, 2)
    mkdirSync(file)
    await source.reread(true)
    t.match(problems[2], [/is a folder/])
    rmSync(file, { recursive: true })

    writeFileSync(file, `201:${SECRET}\n`)
    await look()
    await look()
    t.same(diffs, [[]], 'whole again, and nothing changed')
    writeFileSync(file, '201:plain\n')
    await source.reread(true)
    t.equal(problems.length, 4, 'the same problem anew is reported anew')
  },
)

void t.test('a broken or missing file does not open', async (t) => {
  const folder = t.testdir({ users: 'a\nb:c\n', folder: {} })
  const options = {
    pool: createPool(),
    onChange: unexpected,
    onProblem: unexpected,
    onHeldBack: unexpected,
    onWarning: unexpected,
    every: systemClock.every,
  }
  const cases: [name: string, problems: RegExp[]][] = [
    ['users', [/users:1: no colon/, /users:2: the hash is neither/]],
    ['gone', [/gone: no such file: make it with `postern user add`/]],
    ['folder', [/folder: is a folder/]],
    ['users/x', [/users\/x: cannot be read \(ENOTDIR\)/]],
  ]
  for (const [name, problems] of cases)
    await t.rejects(openUsersFile({ ...options, file: `${folder}/${name}` }), {
      name: 'ConfigError',
      problems,
    })
})

void t.test('a file that everybody can read is in force, with a warning', async (t) => {
  const { source, file, warnings } = await open(t, `201:${SECRET}\n`)
  await source.reread(true)
  t.same(warnings, [])
  chmodSync(file, 0o644)
  await source.reread(true)
  t.match(warnings, [/every user of this host can read the hashes: chmod o= /])

  source.close()

  const again = await openUsersFile({
    file,
    pool: createPool(),
    onChange: unexpected,
    onProblem: unexpected,
    onHeldBack: unexpected,
    onWarning: (line) => warnings.push(line),
    every: systemClock.every,
  })
  again.close()
  t.equal(warnings.length, 2, 'at the start too')
})

void t.test(
  'a file that every user of the host can write is no word of the operator',
  async (t) => {
    const { file, source, problems, diffs } = await open(t, `a:${SECRET}:user:A\n`)
    appendFileSync(file, `b:${SECRET}:admin:B\n`)
    chmodSync(file, 0o666)
    await source.reread(true)
    t.match(problems, [[/users: has mode 666: .*chmod o-w/]])
    t.same(source.peek('b'), { refused: 'unknown_user' }, 'the last good state stays')
    t.match(source.peek('a'), { user: { name: 'a' } })
    await t.rejects(
      openUsersFile({
        file,
        pool: createPool(),
        onChange: unexpected,
        onProblem: unexpected,
        onHeldBack: unexpected,
        onWarning: unexpected,
        every: () => unexpected,
      }),
      /has mode 666/,
    )
    chmodSync(file, 0o640)
    await source.reread(true)
    t.match(source.peek('b'), { user: { role: 'admin' } }, 'mended, it counts')
    t.equal(diffs.length, 1)
  },
)
