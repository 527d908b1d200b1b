// `postern key`: words in; lines, exit code and the key file out. What the running daemon makes of it stands in
// test/daemon/key-rotation.test.ts.

import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import t, { type Test } from 'tap'
import { createKeyCommand, key } from '../../src/cli/key.ts'
import { NOW } from '../fixtures/clock.ts'
import { jwk, keySet, secretOf } from '../fixtures/keys.ts'
import { makePlace } from '../fixtures/postern.ts'
import { runCommand } from './run.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

const AT = '2027-01-15T08:00:00Z' // NOW
const setUp = (t: Test, text: string | undefined = keySet(jwk('a', { created: NOW - 60 }))) => {
  const place = makePlace(t)
  const state = place.at('state')
  const file = place.at('state', 'keys.json')
  mkdirSync(state, { mode: 0o700 })
  if (text !== '') writeFileSync(file, text, { mode: 0o600 })
  let now = NOW
  const command = createKeyCommand(() => now)
  return {
    place,
    state,
    file,
    pass: (seconds: number) => void (now += seconds),
    run: (...argv: string[]) => runCommand(command, [...argv, '--config', place.config]),
  }
}

const LATER = '\nthe daemon is not running: this takes effect when it starts'

void t.test('a key is added, takes over, is retired and goes', async (t) => {
  const { run, pass, state, file } = setUp(t)
  const added = await run('add', '--alg', 'EdDSA')
  const kid = added.out.split(' ')[0] ?? ''
  t.same(added, {
    status: 0,
    out: `${kid} added: it signs from now on; retire the one before${LATER}`,
    err: '',
  })
  pass(60)
  t.same(await run('retire', 'a'), {
    status: 0,
    out: `a retired: it no longer signs; its last access token expires at 2027-01-15T09:01:00Z${LATER}`,
    err: '',
  })
  const { out } = await run('list')
  t.equal(
    out.replaceAll(kid, 'KID-OF-16-DIGITS'),
    [
      'KID               ALG    STATE    CREATED               RETIRED               LAST TOKEN GONE',
      `KID-OF-16-DIGITS  EdDSA  signing  ${AT}  -                     -`,
      'a                 HS256  retired  2027-01-15T07:59:00Z  2027-01-15T08:01:00Z  2027-01-15T09:01:00Z',
    ].join('\n'),
  )
  t.match(JSON.parse((await run('list', '--json')).out), [
    { kid, state: 'signing' },
    { kid: 'a', gone: NOW + 3660 },
  ])
  pass(3599)
  t.match(await run('remove', 'a'), {
    status: 1,
    err: /access tokens signed with the key may be valid until 2027-01-15T09:01:00Z.*--yes$/,
  })
  pass(1)
  t.match(await run('remove', 'a'), {
    status: 0,
    out: /^a removed: access tokens signed with it are no longer accepted/,
  })
  t.equal((statSync(file).mode & 0o777).toString(8), '600')
  t.same(readdirSync(state), ['keys.json'], 'no draft and no lock is left')
})

void t.test(
  'a key stands by until the one before it is retired; --yes ends one at once',
  async (t) => {
    const { run } = setUp(t)
    const { out } = await run('add', '--standby')
    const kid = out.split(' ')[0] ?? ''
    t.match(out, /added: it verifies, and signs once the keys before it are retired/)
    t.match(JSON.parse((await run('list', '--json')).out), [
      { kid: 'a', state: 'signing' },
      { kid, state: 'standby' },
    ])
    t.match(await run('remove', 'a'), {
      status: 1,
      err: /the key is not retired: access tokens and tickets.*--yes$/,
    })
    t.match(await run('remove', 'a', '--yes'), { status: 0 })
    t.match(JSON.parse((await run('list', '--json')).out), [{ kid, state: 'signing' }])
  },
)

void t.test('what cannot be done is refused with its cure, and changes nothing', async (t) => {
  const { run, file } = setUp(t, keySet(jwk('a'), jwk('old', { retired: NOW })))
  const before = readFileSync(file, 'utf8')
  const rows: readonly (readonly [argv: string[], status: number, says: RegExp])[] = [
    [['retire', 'b'], 1, /^postern key retire: no such key: see `postern key list`$/],
    [['retire', 'a'], 1, /no other key can sign: add one first/],
    [['remove', 'a', '--yes'], 1, /no other key can sign/],
    [['retire', 'old'], 1, /the key is already retired/],
    [['add', '--alg', 'none'], 64, /--alg is one of HS256, EdDSA, ES256, RS256/],
    [['add', 'kid'], 64, /add: takes options only/],
    [['add', '--yes'], 64, /there is no option "--yes" here/],
    [['retire'], 64, /KID is missing/],
    [['rotate'], 64, /there is no such verb/],
  ]
  for (const [argv, status, says] of rows) {
    const ran = await run(...argv)
    t.equal(ran.status, status, argv.join(' '))
    t.match(ran.err, says, argv.join(' '))
    t.equal(ran.out, '')
  }
  t.equal(readFileSync(file, 'utf8'), before)
  t.notOk(before.includes('added'))
})

void t.test('a key file that is missing or broken is not made or mended here', async (t) => {
  const none = setUp(t, '')
  t.match(await none.run('add'), { status: 78, err: /keys\.json: is gone: restore it/ })
  t.same(readdirSync(none.state), [])
  const broken = setUp(t, keySet(jwk('a', { k: 'AA' })))
  t.match(await broken.run('list'), { status: 78, err: /key 1 \(a\) is 1 bytes long/ })
  const open = setUp(t)
  chmodSync(open.file, 0o644)
  t.match(await open.run('add'), { status: 78, err: /has mode 644/ })
  const unmade = makePlace(t)
  t.match(await runCommand(key, ['list', '--config', unmade.config]), { status: 78, err: /ENOENT/ })
  t.match(await runCommand(key, ['add', '--config', unmade.config]), {
    status: 74,
    err: /lock\.\w+: ENOENT: no such file or folder/,
  })
  t.match(await runCommand(key, ['list']), { status: 78, err: /postern\.toml/ })
  t.match(await runCommand(key, ['list', '--config', '/nowhere']), {
    status: 78,
    err: /no such file/,
  })
})

void t.test('two commands at once lose no key; one that cannot wait says so', async (t) => {
  const { run, file } = setUp(t)
  const ran = await Promise.all(Array.from({ length: 8 }, () => run('add')))
  t.same(
    ran.map(({ status }) => status),
    Array(8).fill(0),
  )
  t.equal((JSON.parse(readFileSync(file, 'utf8')) as { keys: unknown[] }).keys.length, 9)
  writeFileSync(`${file}.lock`, `${process.pid}\n`)
  t.match(await run('add'), { status: 74, err: /another process holds .*keys\.json\.lock/ })
})

void t.test('no secret is ever printed', async (t) => {
  const { run } = setUp(t, keySet(jwk('a'), jwk('b')))
  const all = [
    await run('list'),
    await run('list', '--json'),
    await run('retire', 'a'),
    await run('remove', 'a', '--yes'),
  ]
  const secret = secretOf('a').toString('base64url')
  for (const { out, err } of all) t.notOk((out + err).includes(secret))
})

const asRoot = needs(isRoot, 'needs root, to be another')
void t.test('root leaves the file to the user of the service', asRoot, async (t) => {
  const { run, state, file } = setUp(t)
  chmodSync(dirname(state), 0o755)
  chownSync(state, 65_534, 65_534)
  chownSync(file, 65_534, 65_534)
  t.match(await run('add'), { status: 0 })
  t.match(statSync(file), { uid: 65_534, gid: 65_534 })
})
