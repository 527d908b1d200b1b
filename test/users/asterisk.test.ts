// Asterisk's files as a source: real files, and looks that happen when the test says so.
import { chmodSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError } from '../../src/config/config-error.ts'
import { openAsteriskUsers, type AsteriskUsersOptions } from '../../src/users/asterisk.ts'
import type { UsersDiff } from '../../src/users/diff-users.ts'

const SAMPLES = join(import.meta.dirname, '../fixtures/asterisk')
const auth = (name: string, password: string): string =>
  `[${name}]\ntype=auth\nusername=${name}\npassword=${password}\n`
const GOOD = auth('a', 'p') + auth('b', 'q')

const open = async (t: Test, text: string, options: Partial<AsteriskUsersOptions> = {}) => {
  const file = options.file ?? join(t.testdir({ 'pjsip.conf': text }), 'pjsip.conf')
  const diffs: UsersDiff[] = []
  const problems: (readonly string[])[] = []
  const warnings: string[] = []
  const heldBack: string[] = []
  let hashed = 0
  let lookNow = (): Promise<void> => Promise.reject(new Error('no look was asked for'))
  const source = await openAsteriskUsers({
    file,
    role: 'user',
    trunkContexts: [],
    rules: [],
    numberFrom: 'username',
    hashDecoy: async () => void hashed++,
    onChange: (diff) => void diffs.push(diff),
    onProblem: (found) => void problems.push(found),
    onHeldBack: (removed, of) => void heldBack.push(`${removed} of ${of}`),
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
    heldBack,
    hashed: () => hashed,
    write: (content: string) => writeFileSync(file, content),
    /** A second goes by. */
    look: () => lookNow(),
  }
}

for (const [sample, name, password] of [
  ['freepbx', '201', '5e884898da28047151d0e56f8dc62927'],
  ['freepbx', '202', 'bob-secret'], // md5_cred in the realm of [global]
  ['freepbx', '203', 'semi;colon'],
  ['mikopbx', '201', 'b749601f329a635a19c4a87bc359be3d'],
  ['mikopbx', '202', 'zweihundertzwei-ü'],
] as const) {
  void t.test(`${name} of the ${sample} sample logs in with the SIP password alone`, async (t) => {
    const { source } = await open(t, '', { file: join(SAMPLES, sample, 'pjsip.conf') })
    t.match(await source.authenticate(name, password), {
      user: { name, role: 'user', displayName: name, credential: /^[0-9a-f]{8}$/ },
    })
    for (const wrong of ['', `${password} `, password.slice(1), password.toUpperCase() + '!']) {
      t.same(await source.authenticate(name, wrong), { refused: 'wrong_password' })
    }
    for (const stranger of ['', `${name} `, '4420555', 'trunkname', 'provider', '__proto__']) {
      t.same(await source.authenticate(stranger, 'known-to-the-provider'), {
        refused: 'unknown_user',
      })
    }
  })
}

const DESK = '[100-desk]\ntype=auth\nusername=100\npassword=desk\n'
const WEB = '[100-web]\ntype=auth\nusername=100\npassword=web\n'

void t.test(
  'two devices of one extension: each secret is right, and has its own mark',
  async (t) => {
    const { source, diffs, write, look } = await open(t, GOOD + DESK + WEB)
    const markOf = async (password: string): Promise<string> => {
      const found = await source.authenticate('100', password)
      return 'user' in found ? found.user.credential : 'refused'
    }
    const [desk, web] = [await markOf('desk'), await markOf('web')]
    t.match([desk, web], [/^[0-9a-f]{8}$/, /^[0-9a-f]{8}$/])
    t.not(desk, web)
    t.same(await source.authenticate('100', ''), { refused: 'wrong_password' })
    t.match(await source.lookup('100'), { user: { credentials: [desk, web] } })

    write(GOOD + WEB + DESK)
    for (let second = 0; second < 3; second++) await look()
    t.same(diffs.splice(0), [[]], 'in another order they are the same two')
    write(GOOD + DESK)
    for (let second = 0; second < 3; second++) await look()
    t.same(diffs.splice(0), [[{ name: '100', change: 'password', gone: [web] }]])
    t.same([await markOf('desk'), await markOf('web')], [desk, 'refused'])
    write(GOOD + DESK + WEB)
    for (let second = 0; second < 3; second++) await look()
    t.same(diffs.splice(0), [[]], 'one that is added takes nothing from anybody')
    write(GOOD + DESK.replace('=desk', '=new') + WEB.replace('=web', '=newer'))
    for (let second = 0; second < 3; second++) await look()
    t.same(diffs.splice(0), [[{ name: '100', change: 'password' }]])
  },
)

void t.test(
  'a second secret freezes nobody: who is removed in the same write is out',
  async (t) => {
    const { source, problems, write, look } = await open(t, GOOD + DESK)
    write(auth('b', 'q') + DESK + WEB)
    for (let second = 0; second < 3; second++) await look()
    t.same(problems, [])
    t.same(await source.authenticate('a', 'p'), { refused: 'unknown_user' })
    t.match(await source.authenticate('100', 'web'), { user: { name: '100' } })
  },
)

void t.test('an emptied file removes nobody until it is meant', async (t) => {
  const { source, write, look, heldBack, diffs } = await open(t, GOOD)
  write('')
  for (let second = 0; second < 3; second++) await look()
  t.same([heldBack, diffs], [['2 of 2'], []])
  t.match(await source.authenticate('a', 'p'), { user: { name: 'a' } })
  await source.reread(true)
  t.same(await source.authenticate('a', 'p'), { refused: 'unknown_user' })
})

void t.test('the hash in the file is no password', async (t) => {
  const { source } = await open(t, '', { file: join(SAMPLES, 'freepbx/pjsip.conf') })
  const text = readFileSync(join(SAMPLES, 'freepbx/pjsip.auth.conf'), 'utf8')
  const md5 = /md5_cred=(\w+)/.exec(text)?.[1] ?? ''
  t.equal(md5.length, 32)
  t.same(await source.authenticate('202', md5), { refused: 'wrong_password' })
})

void t.test(
  'every user costs a hash, a stranger none: the directory pays for that one',
  async (t) => {
    const { source, hashed } = await open(t, GOOD + auth('c', ''))
    await source.authenticate('a', 'p')
    await source.authenticate('a', 'wrong')
    t.same(await source.authenticate('c', ''), { refused: 'unknown_user' }, 'no secret, no user')
    t.equal(hashed(), 2)
    await source.authenticate('nobody', 'p')
    t.equal(hashed(), 2)
  },
)

void t.test('a full hash queue judges nobody', async (t) => {
  const { source } = await open(t, GOOD, { hashDecoy: () => undefined })
  t.same(await source.authenticate('a', 'p'), { unavailable: 'hash_queue_full', retryAfter: 2 })
})

void t.test('whoever is removed while the hash runs stays out', async (t) => {
  const { source, write } = await open(t, GOOD, {
    hashDecoy: async () => {
      write(auth('b', 'q'))
      await source.reread(true)
    },
  })
  t.same(await source.authenticate('a', 'p'), { refused: 'unknown_user' })
})

void t.test('a file that gives nobody is said at the start, and what it holds', async (t) => {
  const said = async (text: string) => (await open(t, text)).warnings
  t.match(await said('[g]\ntype=global\n'), [/pjsip\.conf: no account is there: nobody logs in/])
  t.match(await said(`[g]\ntype=global\n${GOOD}`), [
    /pjsip\.conf: every account is left out, 2 in all, the first since no endpoint names it in auth=: .*--source asterisk/,
  ])
  t.match(await said(GOOD), [/only auth sections/])
})

void t.test('what cannot be believed stops the start, with every problem', async (t) => {
  const folder = t.testdir({ 'pjsip.conf': '#include b\n', b: GOOD, 'pjsip_wizard.conf': {} })
  chmodSync(join(folder, 'b'), 0o662)
  const file = join(folder, 'pjsip.conf')
  await t.rejects(open(t, '', { file }), new ConfigError([]))
  await open(t, '', { file }).catch((error: unknown) =>
    t.match(error, {
      problems: [/pjsip\.conf:1: .*b: has mode 662/, /pjsip_wizard\.conf: is no file: name a file/],
    }),
  )
})

void t.test('what is broken is nobody, at the start and later, and freezes nobody', async (t) => {
  const odd = '[a](missing)\ntype=auth\nusername=a\npassword=p\n[\n'
  const { source, problems, write, look } = await open(t, odd + auth('b', 'q') + auth('c', 'r'))
  t.same(source.peek('a'), { refused: 'unknown_user' })
  t.match(await source.authenticate('b', 'q'), { user: { name: 'b' } })
  write(`x=1\n${odd}#tryinclude none\n#include pjsip.conf\n${auth('c', 'new')}`)
  for (let second = 0; second < 3; second++) await look()
  t.same(problems, [])
  t.same(source.peek('b'), { refused: 'unknown_user' })
  t.match(await source.authenticate('c', 'new'), { user: { name: 'c' } })
})

void t.test('of many warnings the first are said', async (t) => {
  const { warnings } = await open(t, `${'hunter2\n'.repeat(200)}${GOOD}`)
  t.equal(warnings.length, 51)
  t.match(warnings.at(-1), /pjsip\.conf: and 151 more warnings$/)
  t.match((await open(t, 'hunter2\n'.repeat(200))).warnings[0], /no account is there/)
})

void t.test('a second section of one name freezes nobody', async (t) => {
  const { source, problems, warnings, write, look } = await open(t, GOOD + auth('c', 'r'))
  warnings.splice(0)
  write(auth('a', 'p') + auth('a', 'r') + auth('c', 's'))
  for (let second = 0; second < 3; second++) await look()
  t.same(problems, [])
  t.same(await source.authenticate('a', 'p'), { refused: 'unknown_user' })
  t.same(await source.authenticate('b', 'q'), { refused: 'unknown_user' }, 'removed in that write')
  t.match(await source.authenticate('c', 's'), { user: { name: 'c' } })
  t.match(warnings, [/:5: \[a\] stands there twice/, /only auth sections/])
})

void t.test('a change is read at the second look that sees it', async (t) => {
  const { source, diffs, write, look } = await open(t, GOOD)
  await look()
  t.same(diffs, [])
  write(auth('a', 'changed') + auth('c', 'r'))
  await look()
  t.same(diffs, [], 'it may still be under way')
  await look()
  t.same(diffs, [
    [
      { name: 'a', change: 'password' },
      { name: 'c', change: 'added' },
      { name: 'b', change: 'removed' },
    ],
  ])
  t.same(await source.authenticate('a', 'p'), { refused: 'wrong_password' })
  t.match(await source.authenticate('a', 'changed'), { user: { name: 'a' } })
  await look()
  t.equal(diffs.length, 1)
})

void t.test('an extension that is taken out of an included file goes', async (t) => {
  const folder = t.testdir({})
  cpSync(join(SAMPLES, 'freepbx'), folder, { recursive: true })
  const { source, diffs, look } = await open(t, '', { file: join(folder, 'pjsip.conf') })
  t.match(source.peek('203'), { user: { name: '203' } })
  writeFileSync(join(folder, 'pjsip.auth_custom.conf'), ';-- [203]\ntype=auth --;\n')
  await look()
  await look()
  t.same(diffs, [[{ name: '203', change: 'removed' }]])
  t.same(source.peek('203'), { refused: 'unknown_user' })
})

void t.test(
  'a file that cannot be believed keeps the last good state and is told once',
  async (t) => {
    const { source, file, diffs, problems, write, look } = await open(t, GOOD)
    write('')
    chmodSync(file, 0o662)
    for (let second = 0; second < 4; second++) await look()
    t.match(problems, [[/pjsip\.conf: has mode 662/]])
    t.match(await source.authenticate('a', 'p'), { user: { name: 'a' } })
    rmSync(file)
    for (let second = 0; second < 4; second++) await look()
    t.match(problems, [[/mode 662/], [/cannot be read \(ENOENT\)/]])
    write(GOOD)
    for (let second = 0; second < 3; second++) await look()
    t.same(diffs, [[]], 'whole again, and nothing changed')
    chmodSync(file, 0o662)
    await source.reread(true)
    t.equal(problems.length, 3, 'a new break is told again')
  },
)
