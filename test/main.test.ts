// The `postern` command from outside: argv in; stdout, stderr and exit code out.
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import {
  bearer,
  check,
  type Ended,
  HASH,
  login,
  makePlace,
  type Place,
  post,
  run,
  serve,
} from './fixtures/postern.ts'
import { ask, V1 } from './nginx/ask.ts'

t.setTimeout(900_000) // many starts of a process, on a machine that may be busy

const ROOT = join(import.meta.dirname, '..')
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string
}

void t.test('words in, lines and a code out', async (t) => {
  const place = makePlace(t)
  type Row = [argv: string[], code: number, out: RegExp | '', err: RegExp | '']
  const table: Row[] = [
    [['--version'], 0, new RegExp(`^postern ${version.replaceAll('.', '\\.')}\n$`), ''],
    [[], 64, '', /^Postern decides/],
    [['check-config', place.config], 0, /postern\.toml: ok\n$/, ''],
    [['check-config', place.at('none')], 78, '', /no such file: copy postern\.example/],
    [['user', 'list', '--config', place.config], 0, /201 .*user.*Anna/, ''],
  ]
  for (const [argv, code, out, err] of table) {
    const ran = run(t, argv)
    const what = `postern ${JSON.stringify(argv)}`
    t.same(await ran.ended, { code, signal: null } satisfies Ended, what)
    t.match(ran.out(), out === '' ? /^$/ : out, `${what}: stdout`)
    t.match(ran.err(), err === '' ? /^$/ : err, `${what}: stderr`)
  }
})

void t.test('a fault of ours is 70, with what a report needs', async (t) => {
  const place = makePlace(t)
  const failWith = (thrown: string) =>
    run(t, ['serve', '--config', place.config], {
      covered: true,
      // Something breaks that nobody has thought of.
      env: {
        NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(`process.umask=()=>{throw ${thrown}}`)}`,
      },
    })
  const table: [thrown: string, err: RegExp][] = [
    ['new Error("odd")', /^postern: Error: odd\n +at /],
    ['Object.assign(new Error("odd"),{stack:undefined})', /^postern: odd\n$/],
    ['"odd"', /^postern: odd\n$/],
  ]
  for (const [thrown, err] of table) {
    const ran = failWith(thrown)
    t.same(await ran.ended, { code: 70, signal: null }, thrown)
    t.match(ran.err(), err, thrown)
    t.equal(ran.out(), '', thrown)
  }
})

void t.test('a reader that goes away is no fault', async (t) => {
  const ran = run(t, ['--help'], { covered: true })
  ran.child.stdout?.destroy()
  t.same(await ran.ended, { code: 0, signal: null })
  t.equal(ran.err(), '')
  const full = openSync('/dev/full', 'w')
  const cut = run(t, ['--help'], { covered: true, stdout: full })
  closeSync(full)
  t.not((await cut.ended).code, 0, 'a full disk is one')
  t.match(cut.err(), /ENOSPC/)
})

const postern = async (t: Test, place: Place, argv: string[], input = '') => {
  const ran = run(t, [...argv, '--config', place.config], { input })
  const { code } = await ran.ended
  return { code, out: ran.out(), err: ran.err() }
}

void t.test('postern user and the running daemon', async (t) => {
  const place = makePlace(t)
  const user = (argv: string[], input?: string) => postern(t, place, ['user', ...argv], input)
  t.match(await user(['add', '202', '--password-stdin'], 'pass two\n'), {
    code: 0,
    out: '202 added; the daemon is not running: the change takes effect when it starts\n',
  })
  await serve(t, place, { covered: true })
  const enter = (name: string, password: string) => login(place.ask, name, password)

  const second = await enter('202', 'pass two')
  t.match(await user(['add', '203', '--password-stdin'], 'pass three\n'), {
    code: 0,
    out: '203 added; no sessions ended\n',
    err: '',
  })
  const third = [await enter('203', 'pass three'), await enter('203', 'pass three')]
  t.same(await user(['disable', '203']), {
    code: 0,
    out: '203 disabled; 2 sessions ended\n',
    err: '',
  })
  for (const { access, refresh } of third) {
    t.match(await check(place, access), /^401 /, 'out before the command has ended')
    t.equal(await post(place, '/auth/refresh', refresh), 401)
  }
  await t.rejects(enter('203', 'pass three'), /401/)
  t.match(await user(['enable', '203']), { code: 0, out: '203 enabled; no sessions ended\n' })
  await enter('203', 'pass three')
  t.match(await user(['password', '203', '--password-stdin'], 'new\n'), {
    code: 0,
    out: '203 has a new password; 1 session ended\n',
  })
  t.match(await user(['remove', '203']), { code: 0, out: '203 removed; no sessions ended\n' })
  t.equal(await check(place, second.access), '204', 'nobody else is touched')

  const ids = async (): Promise<Record<string, number>> => {
    const { out } = await user(['list', '--json'])
    const rows = JSON.parse(out) as { name: string; id: number }[]
    return Object.fromEntries(rows.map(({ name, id }) => [name, id]))
  }
  const first = await ids()
  t.same(Object.keys(first).toSorted(), ['201', '202', '900'])
  t.equal(new Set(Object.values(first)).size, 3, 'each a number of their own')
  for (const id of Object.values(first)) t.ok(Number.isInteger(id) && id > 0)
  t.same(await ids(), first, 'and it stays')
  t.equal(
    (
      JSON.parse((await place.ask(`${V1}/profile`, { headers: bearer(second.access) })).body) as {
        user: { id: number }
      }
    ).user.id,
    first['202'],
    'the number that clients see',
  )

  place.users(`201:${HASH}:user`, 'broken line')
  const refused = await ask(0, '/users/reload', {
    method: 'POST',
    socket: place.at('control.sock'),
  })
  t.match(refused, { status: 409, body: /users:2: / })
  t.equal(await check(place, second.access), '204', 'a broken file logs nobody out')
})
