// Which stored hashes are understood, and which password matches them.
import { hashSync } from 'bcryptjs'
import t from 'tap'
import {
  DEFAULT_COST,
  findPasswordProblem,
  hashPassword,
  isWeak,
  parseHash,
  verifyPassword,
} from '../../src/passwords/hash.ts'

const CHEAP = { memory: 7168, passes: 1 }
const SALT = 'c29tZXNhbHRzb21lc2FsdA'
const TAG = 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE'
const BCRYPT_TAIL = 'abcdefghijklmnopqrstuO9mF1Fjnzi7GcSbuNSoyaB4Vsu1KJZ1m'

void t.test('a password matches its own hash, and no other does', async (t) => {
  const stored = hashPassword('correct horse', CHEAP)
  t.match(stored, /^\$argon2id\$v=19\$m=7168,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  t.equal(verifyPassword(stored, 'correct horse'), true)
  for (const wrong of ['Correct horse', 'correct horse ', ' correct horse', '', 'x'])
    t.equal(verifyPassword(stored, wrong), false, JSON.stringify(wrong))
  t.not(hashPassword('correct horse', CHEAP), stored, 'every hash has a salt of its own')
})

void t.test('a hash made by the reference implementation is understood', async (t) => {
  // printf password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 32 (phc-winner-argon2, src/test.c)
  const stored =
    '$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc'
  t.equal(verifyPassword(stored, 'password'), true)
  t.equal(verifyPassword(stored, 'Password'), false)
})

void t.test('passwords of 1 to 1024 bytes count in full, as they are', async (t) => {
  for (const password of ['0', ' ', 'päss wörd\t', '\0', 'a\nb\n', 'e\u0301', 'x'.repeat(1024)])
    t.equal(verifyPassword(hashPassword(password, CHEAP), password), true, password.slice(0, 20))

  t.equal(verifyPassword(hashPassword('é', CHEAP), 'e\u0301'), false, 'no normalising')
  const long = hashPassword('x'.repeat(1024), CHEAP)
  t.equal(verifyPassword(long, 'x'.repeat(1023)), false, 'no truncating')
  t.equal(verifyPassword(long, 'x'.repeat(1025)), false)
})

void t.test('what cannot be a password says why', async (t) => {
  t.equal(findPasswordProblem('0'), undefined)
  t.equal(findPasswordProblem(''), 'the password is empty')
  t.equal(findPasswordProblem('ü'.repeat(512)), undefined)
  t.match(findPasswordProblem('ü'.repeat(513)), /more than 1024 bytes/)
  t.match(findPasswordProblem('half \ud800'), /not valid Unicode/)
  t.throws(() => hashPassword('', CHEAP), { message: 'the password is empty' })
  t.equal(
    verifyPassword(hashPassword('half \ufffd', CHEAP), 'half \ud800'),
    false,
    'half a surrogate pair is not the replacement character',
  )
})

void t.test('stored hashes', async (t) => {
  const argon2 = (parameters: string, salt = SALT, tag = TAG): string =>
    `$argon2id$v=19$${parameters}$${salt}$${tag}`

  const cases: [stored: string, expected: string | { kind: string }][] = [
    [argon2('m=19456,t=2,p=1'), { kind: 'argon2id' }],
    [argon2('m=7168,t=5,p=1'), { kind: 'argon2id' }],
    [argon2('m=1048576,t=4,p=16'), { kind: 'argon2id' }],
    [`$2y$05$${BCRYPT_TAIL}`, { kind: 'bcrypt' }],
    [`$2b$12$${BCRYPT_TAIL}`, { kind: 'bcrypt' }],
    [`$2a$15$${BCRYPT_TAIL}`, { kind: 'bcrypt' }],
    // too weak
    [argon2('m=7167,t=9,p=1'), 'argon2id with m below 7168 is too weak'],
    [argon2('m=1,t=1,p=1'), 'argon2id with m below 7168 is too weak'],
    [`$2y$04$${BCRYPT_TAIL}`, 'bcrypt with a cost below 5 is too weak'],
    // a line that would stall the host
    [argon2('m=1048577,t=1,p=1'), 'so high'],
    [argon2('m=4294967295,t=1,p=1'), 'so high'],
    [argon2('m=1048576,t=5,p=1'), 'so high'],
    [argon2('m=7168,t=9999999999,p=1'), 'so high'],
    [argon2('m=19456,t=2,p=17'), 'so high'],
    [`$2y$16$${BCRYPT_TAIL}`, 'bcrypt with a cost above 15'],
    // not as the PHC format has it
    [argon2('m=0,t=2,p=1'), 'neither'],
    [argon2('m=019456,t=2,p=1'), 'neither'],
    [argon2('m=19456,t=-2,p=1'), 'neither'],
    [argon2('t=2,m=19456,p=1'), 'neither'],
    [argon2('m=19456,t=2,p=1,keyid=a'), 'neither'],
    [argon2('m=19456,t=2,p=1', `${SALT}==`), 'neither'],
    [argon2('m=19456,t=2,p=1', 'c29tZXNhbHRzb21lc2FsdB'), 'the salt is not'],
    [argon2('m=19456,t=2,p=1', 'c29tZXNhbHR'), 'the salt is not'],
    [argon2('m=19456,t=2,p=1', 'A'.repeat(88)), 'the salt is not'],
    [argon2('m=19456,t=2,p=1', SALT, 'c29tZXNhbHQ'), 'the hash is not 16'],
    [argon2('m=19456,t=2,p=1', SALT, 'A'.repeat(100)), 'the hash is not 16'],
    [argon2('m=19456,t=2,p=1').replace('v=19', 'v=16'), 'neither'],
    [argon2('m=19456,t=2,p=1').replace('argon2id', 'argon2i'), 'neither'],
    [`${argon2('m=19456,t=2,p=1')}\n`, 'neither'],
    [`$2x$12$${BCRYPT_TAIL}`, 'neither'],
    [`$2y$12$${BCRYPT_TAIL}a`, 'neither'],
    ['$apr1$abcdefgh$0123456789012345678901', 'neither'],
    ['{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=', 'neither'],
    ['secret', 'neither'],
    ['', 'neither'],
  ]
  for (const [stored, expected] of cases) {
    const parsed = parseHash(stored)
    if (typeof expected !== 'string') t.match(parsed, expected, stored)
    else {
      t.ok('problem' in parsed && parsed.problem.includes(expected), stored || 'nothing at all')
      t.throws(() => verifyPassword(stored, 'x'), 'verifying it is a fault, not a refusal')
    }
  }
})

void t.test('a bcrypt hash is verified, but only for what bcrypt looks at', async (t) => {
  for (const kind of ['$2a$', '$2b$', '$2y$']) {
    const stored = hashSync('secret', 5).replace('$2b$', kind)
    t.equal(verifyPassword(stored, 'secret'), true, kind)
    t.equal(verifyPassword(stored, 'Secret'), false, kind)
  }
  const long = hashSync('x'.repeat(72), 5)
  t.equal(verifyPassword(long, 'x'.repeat(72)), true)
  t.equal(verifyPassword(long, 'x'.repeat(73)), false, 'a longer one would match on its start')
  const short = hashSync('a', 5)
  t.equal(verifyPassword(short, 'a\0a'), false, 'the same key to bcrypt, another password to us')
})

void t.test('what is weaker than OWASP asks for is marked', async (t) => {
  const cases: [stored: string, weak: boolean][] = [
    [`$argon2id$v=19$m=19456,t=2,p=1$${SALT}$${TAG}`, false],
    [`$argon2id$v=19$m=7168,t=5,p=1$${SALT}$${TAG}`, false],
    [`$argon2id$v=19$m=7168,t=4,p=1$${SALT}$${TAG}`, true],
    [`$2y$10$${BCRYPT_TAIL}`, false],
    [`$2y$09$${BCRYPT_TAIL}`, true],
  ]
  for (const [stored, weak] of cases) {
    const parsed = parseHash(stored)
    t.ok('kind' in parsed && isWeak(parsed) === weak, stored)
  }
  t.same(DEFAULT_COST, { memory: 19_456, passes: 2 })
})
