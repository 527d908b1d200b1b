// The key file: made once, whole and private; never read where somebody else could have put it.

import { fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs, {
  chmodSync,
  existsSync,
  chownSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { generateKeySet } from '../../src/auth/keyring.ts'
import { ConfigError } from '../../src/config/config-error.ts'
import { editKeys, judgeKeys, keysFile, loadKeys } from '../../src/config/keys-file.ts'
import { jwk, keySet } from '../fixtures/keys.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

/** A state directory as systemd makes it. */
const makeState = (t: Test, text?: string, mode = 0o600): string => {
  const directory = join(t.testdir(), 'state')
  mkdirSync(directory, { mode: 0o700 })
  if (text !== undefined) writeFileSync(keysFile(directory), text, { mode })
  return directory
}

const problemsOf = async (directory: string): Promise<readonly string[]> => {
  try {
    await loadKeys(directory)
    return []
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
}

/** No disk can be filled without root: for this test the call itself fails. */
const breakFs = (t: Test, name: 'writeFileSync' | 'fsyncSync' | 'linkSync', error: Error): void => {
  const original = fs[name]
  const value = (): never => {
    throw error
  }
  Object.assign(fs, { [name]: value })
  syncBuiltinESMExports()
  t.teardown(() => {
    Object.assign(fs, { [name]: original })
    syncBuiltinESMExports()
  })
}

const modeOf = (file: string): string => (statSync(file).mode & 0o777).toString(8)

void t.test('the first start makes a key, every later one reads it', async (t) => {
  const directory = makeState(t)
  const first = await loadKeys(directory)
  t.equal(modeOf(keysFile(directory)), '600')
  t.same(readdirSync(directory), ['keys.json'], 'no draft is left')
  const text = readFileSync(keysFile(directory), 'utf8')
  const second = await loadKeys(directory)
  t.equal(second.signing.kid, first.signing.kid)
  t.equal(readFileSync(keysFile(directory), 'utf8'), text)
})

void t.test('no umask makes the key readable for others', async (t) => {
  const directory = makeState(t)
  const before = process.umask(0)
  t.teardown(() => process.umask(before))
  await loadKeys(directory)
  t.equal(modeOf(keysFile(directory)), '600')
})

void t.test('a key of the operator’s is taken, also when root has put it', async (t) => {
  const directory = makeState(t, keySet(jwk('mine')), 0o400)
  t.equal((await loadKeys(directory)).signing.kid, 'mine')
})

void t.test(
  'reads a credential as Debian 13 hands it over',
  needs(isRoot, 'only root may give files away'),
  async (t) => {
    const directory = makeState(t, keySet(jwk('mine')), 0o440)
    chownSync(keysFile(directory), 0, 0)
    t.equal((await loadKeys(directory)).signing.kid, 'mine')
    chownSync(keysFile(directory), 0, 12_345)
    t.match(await problemsOf(directory), [/keys.json: has mode 440: /], 'not of another group')
  },
)

void t.test(
  'the place of a credential, seen from outside of the unit, is no bad key file',
  needs(isRoot, 'only root may give files away'),
  async (t) => {
    const directory = makeState(t, '', 0o644)
    chownSync(keysFile(directory), 0, 0)
    await t.rejects(judgeKeys(directory), ConfigError, 'in a folder of root’s')
    chownSync(directory, 12_345, 12_345)
    await judgeKeys(directory)
    await t.rejects(loadKeys(directory), ConfigError, 'a start reads it all the same')
  },
)

void t.test('a file that others may read or write is refused', async (t) => {
  for (const mode of [0o644, 0o640, 0o660, 0o606, 0o601, 0o620]) {
    await t.test(mode.toString(8), async (t) => {
      const directory = makeState(t, generateKeySet())
      chmodSync(keysFile(directory), mode)
      t.match(await problemsOf(directory), [
        new RegExp(`keys.json: has mode ${mode.toString(8)}: .*chmod 0600 it`),
      ])
    })
  }
})

void t.test('a file of another user is refused', async (t) => {
  const directory = makeState(t, generateKeySet())
  // Only root can give a file away; anybody else pretends to be another user.
  if (isRoot) chownSync(keysFile(directory), 12_345, 12_345)
  else t.intercept(process, 'geteuid', { value: () => 12_345 })
  const [problem = ''] = await problemsOf(directory)
  t.match(problem, /keys\.json: belongs to user \d+: chown it to the user of the service$/)
})

void t.test('what is no file is refused, and hangs nobody', async (t) => {
  await t.test('a directory', async (t) => {
    const directory = makeState(t)
    mkdirSync(keysFile(directory), { mode: 0o700 })
    t.match(await problemsOf(directory), [/keys\.json: is not a regular file$/])
  })
  await t.test('a FIFO', async (t) => {
    const directory = makeState(t)
    t.equal(spawnSync('mkfifo', ['-m', '600', keysFile(directory)]).status, 0)
    t.match(await problemsOf(directory), [/keys\.json: is not a regular file$/])
  })
  await t.test('a socket', async (t) => {
    // A short name: no socket's path may be longer than 107 bytes.
    const directory = mkdtempSync(join(tmpdir(), 'keys-'))
    const server = createServer()
    t.teardown(() => {
      server.close()
      rmSync(directory, { recursive: true })
    })
    await once(server.listen(keysFile(directory)), 'listening')
    chmodSync(keysFile(directory), 0o600)
    t.match(await problemsOf(directory), [/keys\.json: cannot be used \(ENXIO\)/])
  })
  await t.test('a device', async (t) => {
    const directory = makeState(t)
    symlinkSync('/dev/zero', keysFile(directory))
    t.match(await problemsOf(directory), [
      /keys\.json: is a symbolic link: put the file itself there$/,
    ])
  })
  await t.test('1 MB', async (t) => {
    const directory = makeState(t, ' '.repeat(1024 * 1024))
    t.match(await problemsOf(directory), [/keys\.json: is larger than 65536 bytes$/])
  })
})

void t.test('a link is refused, wherever it points', async (t) => {
  const directory = makeState(t)
  const elsewhere = join(t.testdirName, 'elsewhere')
  symlinkSync(elsewhere, keysFile(directory))
  const link = /keys\.json: is a symbolic link: put the file itself there$/
  t.match(await problemsOf(directory), [link], 'to nowhere')
  t.same(readdirSync(directory), ['keys.json'], 'and nothing was made there')
  writeFileSync(elsewhere, generateKeySet(), { mode: 0o600 })
  t.match(await problemsOf(directory), [link], 'to a good file')
})

void t.test('a directory that others may write is refused, also behind a link', async (t) => {
  for (const mode of [0o777, 0o720, 0o702]) {
    await t.test(mode.toString(8), async (t) => {
      const directory = makeState(t, generateKeySet())
      chmodSync(directory, mode)
      const problem = /others may write here, so they could put a key of theirs: chmod 0700 it$/
      t.match(await problemsOf(directory), [problem])
      const link = join(t.testdirName, 'link')
      symlinkSync(directory, link)
      t.match(await problemsOf(link), [problem])
    })
  }
  const directory = makeState(t, generateKeySet())
  chmodSync(directory, 0o755)
  t.same(await problemsOf(directory), [], 'others may look at the directory')
})

void t.test('a directory that cannot be used is named with the cure', async (t) => {
  const cure =
    /keys\.json: cannot be used \(E[A-Z]+\): run a command as root \(sudo\); the service needs a directory of its own, writable and 0700$/
  t.match(await problemsOf(join(t.testdir(), 'nowhere')), [cure])
  const file = join(t.testdirName, 'file')
  writeFileSync(file, '')
  t.match(await problemsOf(file), [cure])
})

void t.test('a look finds what a start would find, and makes nothing', async (t) => {
  const state = makeState(t)
  await judgeKeys(state)
  t.notOk(existsSync(keysFile(state)))
  writeFileSync(keysFile(state), keySet(jwk('a')), { mode: 0o600 })
  await judgeKeys(state)
  writeFileSync(keysFile(state), 'nonsense')
  await t.rejects(judgeKeys(state), ConfigError)
  chmodSync(state, 0o777)
  await t.rejects(judgeKeys(state), /others may write here/)
  await t.rejects(judgeKeys(join(state, 'nowhere')), /cannot be used \(ENOENT\)/)
})

void t.test('a key that cannot be written whole is not there at all', async (t) => {
  const failing: readonly (readonly ['writeFileSync' | 'fsyncSync' | 'linkSync', string])[] = [
    ['writeFileSync', 'ENOSPC'],
    ['fsyncSync', 'EIO'],
    ['linkSync', 'EPERM'],
  ]
  for (const [name, code] of failing) {
    await t.test(`${name} fails with ${code}`, async (t) => {
      const directory = makeState(t)
      breakFs(t, name, Object.assign(new Error(code), { code }))
      t.match(await problemsOf(directory), [`keys.json: cannot be used (${code})`])
      t.same(readdirSync(directory), [])
    })
  }
})

void t.test('a bug is no problem of the operator’s', async (t) => {
  const directory = makeState(t)
  breakFs(t, 'fsyncSync', new TypeError('a bug'))
  await t.rejects(loadKeys(directory), new TypeError('a bug'))
  t.same(readdirSync(directory), [])
})

void t.test('every problem of the keys is named, with the file', async (t) => {
  const directory = makeState(t, keySet(jwk('a', { k: 'AA' }), jwk('b', { alg: 'none' })))
  const file = keysFile(directory)
  t.same(await problemsOf(directory), [
    `${file}: key 1 (a) is 1 bytes long: HS256 needs at least 32 random bytes (RFC 7518 §3.2)`,
    `${file}: key 2 (b) is none of HS256, EdDSA, ES256, RS256 with the kty and crv that belong to it`,
  ])
  writeFileSync(file, '')
  t.same(await problemsOf(directory), [`${file}: is not JSON`], 'an empty file is no first start')
})

void t.test('a file with several things wrong tells all of them', async (t) => {
  const directory = makeState(t)
  mkdirSync(keysFile(directory))
  chmodSync(keysFile(directory), 0o755)
  const problems = await problemsOf(directory)
  t.match(problems, [/is not a regular file$/, /has mode 755/])
})

void t.test('a second name of the file is no harm', async (t) => {
  const directory = makeState(t, generateKeySet())
  linkSync(keysFile(directory), join(t.testdirName, 'copy'))
  t.same(await problemsOf(directory), [])
})

void t.test('two first starts at once, 50 times: one key, used by both', async (t) => {
  const folder = t.testdir()
  const script = join(folder, 'start.mjs')
  const source = JSON.stringify(new URL('../../src/config/keys-file.ts', import.meta.url).href)
  // The processes are up before each race, so that both really begin within microseconds.
  writeFileSync(
    script,
    `import { statSync } from 'node:fs'
     import { keysFile, loadKeys } from ${source}
     process.on('message', async ({ directory, at }) => {
       while (Date.now() < at);
       const { signing } = await loadKeys(directory)
       process.send({ kid: signing.kid, mode: statSync(keysFile(directory)).mode & 0o777 })
     })
     process.send('up')`,
  )
  const starters = [0, 1].map(() => fork(script, { execArgv: [], env: {} }))
  t.teardown(() => {
    for (const starter of starters) starter.kill()
  })
  await Promise.all(starters.map((starter) => once(starter, 'message')))
  for (let race = 0; race < 50; race++) {
    const directory = join(folder, `race ${race}`)
    mkdirSync(directory, { mode: 0o700 })
    const answers = Promise.all(starters.map((starter) => once(starter, 'message')))
    const at = Date.now() + 5
    for (const starter of starters) starter.send({ directory, at })
    const [[one], [two]] = (await answers) as [
      [{ kid: string; mode: number }],
      [{ kid: string; mode: number }],
    ]
    t.same(one, two, `race ${race}: the same key`)
    t.equal(one.mode, 0o600)
    t.same(readdirSync(directory), ['keys.json'])
    t.equal((await loadKeys(directory)).signing.kid, one.kid)
    rmSync(directory, { recursive: true })
  }
})

void t.test('an edit that cannot be written leaves the old file, and no draft', async (t) => {
  const directory = makeState(t, keySet(jwk('a')))
  const before = readFileSync(keysFile(directory), 'utf8')
  breakFs(t, 'fsyncSync', new Error('no space left'))
  const edit = editKeys(directory, () => ({ text: keySet(jwk('b')) }))
  await t.rejects(edit, { message: 'no space left' })
  t.equal(readFileSync(keysFile(directory), 'utf8'), before)
  t.same(readdirSync(directory), ['keys.json'])
})
