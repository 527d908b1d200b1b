// The users file as text: who is in it, or every problem with its line, and never a hash.
import t from 'tap'
import { parseUsers } from '../../src/users/parse-users.ts'

const ARGON2 =
  '$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE'
const BCRYPT = '$2y$05$abcdefghijklmnopqrstuO9mF1Fjnzi7GcSbuNSoyaB4Vsu1KJZ1m'
const LATIN1_UE = 0xfc
const COLON = 0x3a
const HASH = 0x23

const parse = (text: string | Buffer) => parseUsers(Buffer.from(text), 'users')

void t.test('users, with what is left out filled in', async (t) => {
  const parsed = await parse(
    [
      '# who may log in',
      '',
      `201:${ARGON2}:user:Anna Ångström`,
      `202:${BCRYPT}`,
      `900:!${ARGON2}:admin:`,
      `bob:${ARGON2}::Bob: the builder\r`,
      '   # an indented comment: with colons',
      `${'n'.repeat(64)}:${ARGON2}`,
      `ünal 😀:${ARGON2}`,
      '0:' + ARGON2,
    ].join('\n'),
  )
  if (!('users' in parsed)) return void t.fail(parsed.problems.join())
  const argon2id = { kind: 'argon2id', weak: false, disabled: false, role: 'user' }
  t.match(
    [...parsed.users.values()],
    [
      { ...argon2id, name: '201', displayName: 'Anna Ångström', number: '201' },
      { ...argon2id, name: '202', displayName: '202', kind: 'bcrypt', weak: true },
      { ...argon2id, name: '900', displayName: '900', role: 'admin', disabled: true },
      { ...argon2id, name: 'bob', displayName: 'Bob: the builder', number: undefined },
      { ...argon2id, name: 'n'.repeat(64), displayName: 'n'.repeat(64) },
      { ...argon2id, name: 'ünal 😀', displayName: 'ünal 😀' },
      { ...argon2id, name: '0', displayName: '0' },
    ],
  )
  t.equal(parsed.users.size, 7)
})

void t.test('an empty file has no users', async (t) => {
  t.same(await parse(''), { users: new Map() })
  t.same(await parse('# nobody yet\n\n'), { users: new Map() })
})

void t.test('the credential is a mark of the password alone', async (t) => {
  const mark = async (line: string): Promise<string> => {
    const parsed = await parse(line)
    return 'users' in parsed ? ([...parsed.users.values()][0]?.credential ?? '') : ''
  }
  const first = await mark(`201:${ARGON2}`)
  t.match(first, /^[\w-]{16}$/)
  t.notMatch(ARGON2, first)
  t.equal(
    await mark(`201:!${ARGON2}:admin:Anna`),
    first,
    'disabling, role and display name leave it',
  )
  t.not(await mark(`201:${BCRYPT}`), first)
})

void t.test('every problem has its line and its cure, and no problem shows the hash', async (t) => {
  const long = 'x'.repeat(65)
  const cases: [line: string | Buffer, problem: RegExp][] = [
    ['secret', /no colon: write name:hash/],
    [`:${ARGON2}`, /no name/],
    [`${long}:${ARGON2}`, /the name has more than 64 bytes/],
    [`${'ü'.repeat(33)}:${ARGON2}`, /the name has more than 64 bytes/],
    [`a/b:${ARGON2}`, /cannot hold : or \//],
    [`.:${ARGON2}`, /cannot be \. or \.\./],
    [`..:${ARGON2}`, /cannot be \. or \.\./],
    [`a\tb:${ARGON2}`, /a control character in the name/],
    [`a\u2028b:${ARGON2}`, /a control character in the name/],
    [`a\u0085b:${ARGON2}`, /a control character in the name/],
    [` 201:${ARGON2}`, /a space or a byte order mark around the name/],
    [`201 :${ARGON2}`, /a space or a byte order mark around the name/],
    [`\uFEFF201:${ARGON2}`, /a space or a byte order mark around the name/],
    [`201:${ARGON2}:${long}`, /the role has more than 64 bytes/],
    [`201:${ARGON2}:a\u0007`, /a control character in the role/],
    [`201:${ARGON2}: admin`, /a space around the role/],
    [`201:${ARGON2}::${'x'.repeat(257)}`, /the display name has more than 256 bytes/],
    [`201:${ARGON2}::a\u001B[2J`, /a control character in the display name/],
    ['201:', /neither argon2id nor bcrypt: set a new one with `postern user password`/],
    ['201:!', /neither/],
    ['201:secret', /neither/],
    ['201:$apr1$secret', /neither/],
    [`201:!!${ARGON2}`, /neither/],
    [`201: ${ARGON2}`, /neither/],
    [`201:${ARGON2} `, /neither/],
    [`201:${ARGON2.replace('m=19456', 'm=1024')}`, /too weak: set a new one/],
    [`201:${ARGON2.replace('m=19456', 'm=9999999')}`, /would stall the host: set a new one/],
    [`201:${BCRYPT.replace('$05$', '$04$')}`, /too weak: set a new one/],
    [Buffer.from([LATIN1_UE, COLON]), /not UTF-8/],
    [Buffer.from([HASH, LATIN1_UE]), /not UTF-8/],
  ]
  const lines = cases.flatMap(([line]) => [Buffer.from(line), Buffer.from('\n')])
  const parsed = await parse(Buffer.concat([Buffer.from('# first\n'), ...lines]))
  const problems = 'problems' in parsed ? parsed.problems : []
  for (const [index, [, problem]] of cases.entries()) {
    const found = problems[index] ?? ''
    t.ok(found.startsWith(`users:${index + 2}: `), `line ${index + 2}`)
    t.match(found, problem)
    t.notMatch(found, /\$argon|\$2y|\$apr1|secret/, 'a secret stays where it is')
  }
  t.equal(problems.length, cases.length)
})

void t.test('a name stands once', async (t) => {
  t.same(await parse(`201:${ARGON2}\n202:${ARGON2}\n201:!${BCRYPT}\n`), {
    problems: ['users:3: the same name as in line 1: remove one of them'],
  })
  t.match(await parse(`anna:${ARGON2}\nAnna:${ARGON2}\n`), { users: Map }, 'names are not folded')
})

void t.test('it is read in slices: whoever waits has a turn', async (t) => {
  const lines = Array.from({ length: 5000 }, (_, n) => `user-${n}:${BCRYPT}:user`)
  let turns = 0
  let isOver = false
  const count = (): void => {
    if (!isOver) setImmediate(count)
    turns++
  }
  setImmediate(count)
  const content = Buffer.from(lines.join('\n'))
  const parsed = await parseUsers(content, 'users')
  isOver = true
  t.ok('users' in parsed && parsed.users.size === 5000)
  t.ok(turns >= 20, `checks had ${turns} turns`)
})
