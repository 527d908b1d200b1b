// `postern user`: argv and standard input in; lines, exit code and the users file out.
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import type { Io } from '../../src/cli/io.ts'
import { user } from '../../src/cli/user.ts'
import { hashPassword, verifyPassword } from '../../src/passwords/hash.ts'
import { pipe, type Ran, runCommand } from './run.ts'
import { runCommand as runIn } from '../../src/cli/command.ts'

const SECRET = hashPassword('secret', { memory: 7168, passes: 5 })
const NOBODY = 65_534
const TEXT = `# staff\n201:${SECRET}:user:Anna\n\n900:!${SECRET}:admin\n`

const run = (argv: string[], stdin?: Io['stdin']): Promise<Ran> => runCommand(user, argv, stdin)

/** Short: a socket's path has 107 bytes at most, and a test's own folder takes most of them. */
function makeSocketFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'postern-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** A users file, a configuration that names it, and cheap hashes. */
function place(t: Test, text?: string | Uint8Array) {
  const folder = t.testdir({})
  const file = `${folder}/users`
  const config = `${folder}/postern.toml`
  const control = `${makeSocketFolder(t)}/control.sock`
  if (text !== undefined) writeFileSync(file, text, { mode: 0o640 })
  const configure = (users: string): void =>
    writeFileSync(
      config,
      `[users]\nfile = "${users}"\n[listen]\ncontrol = "${control}"\n[passwords]\nmemory_kib = 7168\npasses = 1\n`,
    )
  configure(file)
  return { file, config, configure, control, read: () => readFileSync(file, 'utf8') }
}

/** A daemon that answers on the control socket, and notes what it was asked. */
async function daemon(t: Test, socket: string, listener: RequestListener): Promise<string[]> {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    listener(request, response)
  }).listen(socket)
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return asked
}

const readHash = (text: string, name: string): string =>
  text
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
    ?.split(':')[1] ?? ''

void t.test('a user comes, changes and goes, and the rest of the file stays', async (t) => {
  const { file, config, read } = place(t, TEXT)
  const at = ['--config', config]
  const seen = '; the daemon is not running: the change takes effect when it starts'

  t.same(
    await run(
      ['add', 'bob', '--role', 'admin', '--display-name', 'Bob: B', '--password-stdin', ...at],
      pipe('päss wörd\n'),
    ),
    { status: 0, out: `bob added${seen}`, err: '' },
  )
  const hash = readHash(read(), 'bob')
  t.equal(read(), `${TEXT}bob:${hash}:admin:Bob: B\n`)
  t.ok(hash.startsWith('$argon2id$v=19$m=7168,t=1,p=1$'))
  t.ok(verifyPassword(hash, 'päss wörd'))

  t.match(await run(['disable', 'bob', ...at]), { status: 0, out: `bob disabled${seen}` })
  t.equal(read(), `${TEXT}bob:!${hash}:admin:Bob: B\n`)
  t.match(await run(['disable', 'bob', ...at]), { out: `bob was already disabled${seen}` })

  t.match(await run(['password', 'bob', '--password-stdin', ...at], pipe('0')), {
    status: 0,
    out: `bob has a new password${seen}`,
  })
  const next = readHash(read(), 'bob')
  t.ok(next.startsWith('!'), 'a new password does not let a disabled user in')
  t.ok(verifyPassword(next.slice(1), '0'))

  t.match(await run(['enable', 'bob', ...at]), { status: 0, out: `bob enabled${seen}` })
  t.match(await run(['enable', 'bob', ...at]), { out: `bob was already enabled${seen}` })
  t.match(await run(['remove', 'bob', ...at]), { status: 0, out: `bob removed${seen}` })
  t.equal(read(), TEXT)
  t.equal(statSync(file).mode & 0o777, 0o640)
})

void t.test('the first user makes the file', async (t) => {
  const { file, config, read } = place(t)
  t.match(await run(['add', '201', '--password-stdin', '--config', config], pipe('secret\n')), {
    status: 0,
    out: '201 added; the daemon is not running: the change takes effect when it starts',
  })
  t.match(read(), /^201:\$argon2id\$v=19\$m=7168,t=1,p=1\$[^:]+:user\n$/)
  t.equal(statSync(file).mode & 0o777, 0o640)
})

void t.test('no such user, or one too many', async (t) => {
  const { file, config, read } = place(t, TEXT)
  for (const verb of ['password', 'disable', 'enable', 'remove'])
    t.match(await run([verb, 'nobody', '--config', config]), {
      status: 1,
      out: '',
      err: `postern user ${verb}: nobody: no such user in ${file}: see \`postern user list\``,
    })
  t.match(await run(['add', '201', '--config', config]), { status: 1, err: /is already in / })
  t.equal(read(), TEXT)
})

void t.test('the daemon is told, and says what came of it', async (t) => {
  const { file, config, control, read } = place(t, TEXT)
  let answer = '{"ended":2}'
  let status = 200
  const asked = await daemon(t, control, (_request, response) => {
    t.match(read(), /201:!/, 'the file is written before')
    response.statusCode = status
    response.end(answer)
  })
  const disable = (): Promise<Ran> => run(['disable', '201', '--config', config])

  t.same(await disable(), { status: 0, out: '201 disabled; 2 sessions ended', err: '' })
  t.same(asked, ['POST /users/reload'])
  const again = '201 was already disabled'
  for (const [body, sessions] of [
    ['{"ended":1}', '1 session ended'],
    ['{"ended":0}', 'no sessions ended'],
    ['{}', 'no sessions ended'],
  ] as const) {
    answer = body
    t.match(await disable(), { status: 0, out: `${again}; ${sessions}` })
  }

  status = 409
  answer = '{"error":"users:1: broken\\nusers:2: too"}'
  t.same(await disable(), {
    status: 74,
    out: `${again} in ${file}`,
    err: 'postern user disable: the running daemon did not apply the change:\nusers:1: broken\nusers:2: too',
  })
  status = 500
  answer = '"?"'
  t.match(await disable(), { status: 74, err: /the daemon answered 500: see its log/ })
  answer = 'nonsense'
  t.match(await disable(), { status: 74, err: /unexpected reply from the daemon: see its log/ })
})

void t.test('a password is typed twice at a terminal, and shown nowhere', async (t) => {
  const { config, read } = place(t, TEXT)
  const type = (keys: string): Promise<Ran> =>
    run(
      ['password', '201', '--config', config],
      Object.assign(new PassThrough().end(keys), { isTTY: true, setRawMode: () => undefined }),
    )
  t.match(await type('new one\rnew one\r'), {
    status: 0,
    err: 'New password for 201 (not shown):\nRepeat it:',
  })
  t.ok(verifyPassword(readHash(read(), '201'), 'new one'))

  const before = read()
  t.match(await type('new one\rold one\r'), { status: 64, err: /the two passwords differ/ })
  t.match(await type('new\u0003'), { status: 64, err: /cancelled: nothing was changed/ })
  t.match(await type('\r\r'), { status: 64, err: /the password is empty/ })
  t.equal(read(), before)
})

void t.test('a password that cannot be one changes nothing', async (t) => {
  const { config, read } = place(t, TEXT)
  const cases: [stdin: string | Uint8Array, problem: RegExp][] = [
    ['', /the password is empty/],
    ['x'.repeat(1025), /more than 1024 bytes/],
    ['a\nb\n', /more than one line/],
    [Buffer.from([0xff]), /not UTF-8/],
  ]
  for (const [stdin, problem] of cases)
    t.match(await run(['password', '201', '--password-stdin', '--config', config], pipe(stdin)), {
      status: 64,
      err: problem,
    })
  t.match(await run(['password', '201', '--config', config], pipe('secret')), {
    status: 64,
    err: /no terminal to ask at: pipe the password in with --password-stdin/,
  })
  t.equal(read(), TEXT)
})

void t.test('wrong usage says what is wrong, never what was typed', async (t) => {
  const { config, read } = place(t, TEXT)
  const at = ['--config', config]
  const cases: [argv: string[], problem: RegExp][] = [
    [[], /user: a verb is missing/],
    [['ban', '201'], /user: there is no such verb$/m],
    [['constructor', '201'], /there is no such verb/],
    [['add', ...at], /user add: NAME is missing/],
    [['add', '201', 'hunter2', ...at], /takes one NAME and options only/],
    [['list', 'hunter2', ...at], /list: takes options only/],
    [['password', '201', '--password', 'hunter2', ...at], /did you mean --password-stdin\?/],
    [['password', '201', '--password=hunter2', ...at], /every user of this host sees arguments/],
    [['add', '201', '--role'], /--role lacks its value/],
    [['password', '201', '--role', 'admin', ...at], /there is no option "--role" here/],
    [['add', 'a/b', ...at], /a name cannot hold/],
    [['add', 'a\nb', ...at], /a control character in the name/],
    [['add', 'bob', '--display-name', 'B\n900:x:admin', ...at], /a control character/],
    [['add', 'bob', '--role', 'a:b', ...at], /a role cannot hold a colon/],
    [['add', 'bob', '--role', 'admni', ...at], /no such role: use .*user.*admin/],
  ]
  for (const [argv, problem] of cases) {
    const ran = await run(argv)
    t.match(ran, { status: 64, out: '', err: problem }, argv.join(' '))
    t.match(ran.err, /^usage: postern user /m, argv.join(' '))
    t.notMatch(ran.err, 'hunter2')
  }
  t.equal(read(), TEXT)
})

void t.test('a broken configuration or users file is 78', async (t) => {
  const { file, config, read } = place(t, '201:plain\n202:plain\n')
  const list = ['list', '--config', config]
  t.match(await run(list), { status: 78, out: '', err: /users:1: .*\n.*users:2: / })
  t.match(await run(['list', '--config', `${config}.gone`]), { status: 78 })

  const disabled = await run(['disable', '201', '--config', config])
  t.match(disabled, { status: 78, err: /nothing was changed: mend these lines first/ })
  t.equal(read(), '201:plain\n202:plain\n')

  const password = (name: string): string[] => [
    'password',
    name,
    '--password-stdin',
    '--config',
    config,
  ]
  t.match(await run(password('201'), pipe('a')), { status: 0, err: /users:2: / })
  t.match(await run(password('202'), pipe('b')), { status: 0, err: '' })
  t.match(await run(list), { status: 0 })

  writeFileSync(file, Buffer.from([0x23, 0xff, 0x0a]))
  t.match(await run(['remove', '201', '--config', config]), { status: 78, err: /not UTF-8/ })
  rmSync(file)
  for (const verb of ['disable', 'list'])
    t.match(await run([verb, ...(verb === 'list' ? [] : ['201']), '--config', config]), {
      status: 78,
      err: `${file}: no such file: make it with \`postern user add\``,
    })
})

void t.test('a file that cannot be read or written is 74', async (t) => {
  const { file, config, configure } = place(t, TEXT)
  configure(`${file}/x`)
  t.match(await run(['list', '--config', config]), {
    status: 74,
    err: /^postern user list: .*users\/x: ENOTDIR: check that/,
  })
  const folder = `${file}.folder`
  mkdirSync(folder)
  configure(folder)
  t.match(await run(['list', '--config', config]), { status: 74, err: /EISDIR/ })
  configure(`${file}.gone/users`)
  t.match(await run(['add', '1', '--password-stdin', '--config', config], pipe('a')), {
    status: 74,
    err: /users.gone: ENOENT: no such file or folder/,
  })
  configure(file)

  writeFileSync(`${file}.lock`, '1\n')
  t.match(await run(['disable', '201', '--config', config]), {
    status: 74,
    err: /another process holds .*users\.lock/,
  })
})

void t.test('somebody who may not is told to be root', async (t) => {
  const folder = makeSocketFolder(t) // where also nobody comes in: the source may lie in root's home
  chmodSync(folder, 0o755)
  const [file, config] = [join(folder, 'users'), join(folder, 'postern.toml')]
  writeFileSync(file, TEXT, { mode: 0o600 })
  writeFileSync(config, `[users]\nfile = "${file}"\n`)
  chmodSync(config, 0o644)
  // Root may: the test is somebody else for as long as it asks.
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(NOBODY)
  else chmodSync(file, 0)
  try {
    t.match(await run(['list', '--config', config]), {
      status: 74,
      err: /EACCES: run this as root/,
    })
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
})

void t.test('without --config it is the one of the host', async (t) => {
  // Whether this host has one is not ours to know: a list changes nothing, and is no wrong usage.
  t.not((await run(['list'])).status, 64)
})

void t.test('a fault is not hidden', async (t) => {
  const { config, control } = place(t, TEXT)
  await daemon(t, control, (_request, response) => void response.end('{"ids":{},"ended":0}'))
  const broken = { out: () => t.fail(), err: () => t.fail() }
  const stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: () => {
      throw new TypeError('broken terminal')
    },
  })
  await t.rejects(runIn(user, ['password', '201', '--config', config], { ...broken, stdin }), {
    message: 'broken terminal',
  })
})

void t.test('list shows who is there, and no hash', async (t) => {
  const { config, control } = place(t, TEXT)
  const ran = await run(['list', '--config', config])
  t.same(ran, {
    status: 0,
    out: [
      'NAME  ID  ROLE   STATE     HASH      DISPLAY NAME',
      '201   -   user   enabled   argon2id  Anna',
      '900   -   admin  disabled  argon2id  900',
    ].join('\n'),
    err: '',
  })

  const json = async (): Promise<unknown> => {
    const { status, out } = await run(['list', '--json', '--config', config])
    t.equal(status, 0)
    t.notMatch(out, SECRET)
    return JSON.parse(out)
  }
  const rows = [
    { name: '201', id: null, role: 'user', display_name: 'Anna', disabled: false },
    { name: '900', id: null, role: 'admin', display_name: '900', disabled: true },
  ]
  t.match(await json(), rows, 'no daemon, no numbers')

  let answer = '{"ids":{"201":7}}'
  const asked = await daemon(t, control, (_request, response) => void response.end(answer))
  t.match(await json(), [{ ...rows[0], id: 7 }, rows[1]])
  t.same(asked, ['GET /users/ids'])
  for (answer of ['{}', '[]', 'null', '{"ids":null}', '{"ids":{"201":"7"}}'])
    t.match(await json(), rows, answer)
  answer = 'nonsense'
  t.match(await run(['list', '--config', config]), {
    status: 0,
    err: /no ids: unexpected reply from the daemon/,
  })
})

void t.test('a file that others can read keeps its mode, and the list says so', async (t) => {
  const { file, config } = place(t, TEXT)
  chmodSync(file, 0o644)
  t.match(await run(['list', '--config', config]), { status: 0, err: /chmod o= / })
  t.match(await run(['disable', '201', '--config', config]), { status: 0, err: /chmod o= / })
  t.equal(statSync(file).mode & 0o777, 0o644)
})

void t.test(
  'list --source asterisk shows every account, why it is none, and no secret',
  async (t) => {
    const folder = t.testdir({
      'pjsip.conf':
        '[201]\ntype=endpoint\ncontext=office\nauth=201\ncallerid=Ann <201>\n' +
        '[201]\ntype=auth\nusername=201\npassword=hunter2\n' +
        '[gw]\ntype=endpoint\ncontext=from-pstn\nauth=gw\n[gw]\ntype=auth\nusername=gw\npassword=hunter3\n' +
        '[odd]\ntype=endpoint\nauth=odd\n[odd]\ntype=auth\nusername=odd\nauth_type=google_oauth\npassword=hunter4\n',
      'broken.conf': '[201\n',
    })
    const config = `${folder}/postern.toml`
    const configure = (file: string): void =>
      writeFileSync(config, `[asterisk]\nfile = "${folder}/${file}"\n`)
    configure('pjsip.conf')
    const list = ['list', '--source', 'asterisk', '--config', config]
    const ran = await run(list)
    t.match(ran, { status: 0, err: /^warning: .*\[odd\]/ })
    t.match(ran.out.split('\n'), [
      /^NAME +NUMBER +ROLE +ENDPOINT +CONTEXT +CALLERID +CONTACTS +LEFT OUT$/,
      /^201 +201 +user +201 +office +Ann <201> +- +-$/,
      /^gw +- +- +gw +from-pstn +- +- +its context from-pstn is one of asterisk\.trunk_contexts$/,
      /^odd +- +- +odd +default +- +- +it has an auth_type that gives no password to compare: not a user here$/,
    ])
    const json = await run([...list, '--json'])
    t.match(JSON.parse(json.out), [
      { name: '201', left_out: null },
      { name: 'gw' },
      { name: 'odd' },
    ])
    t.notMatch(ran.out + ran.err + json.out, 'hunter')
    t.match(await run(['list', '--source', 'http', '--config', config]), {
      status: 64,
      err: /no list/,
    })
    configure('broken.conf')
    t.match(await run(list), { status: 0, err: /warning: .*broken\.conf:1: / })
    configure('none.conf')
    t.match(await run(list), { status: 78, err: /none\.conf: cannot be read \(ENOENT\)/ })
  },
)
