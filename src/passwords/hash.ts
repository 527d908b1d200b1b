// Stored passwords: made as argon2id PHC strings, checked as those or as htpasswd's bcrypt. Slow on
// purpose: the daemon calls this in worker threads only (pool.ts). No message ever contains a hash.
import { argon2Sync, randomBytes, timingSafeEqual } from 'node:crypto'
import { compareSync } from 'bcryptjs'

/** What one argon2id hash costs: KiB of memory, and how often they are passed over. */
export interface Cost {
  memory: number
  passes: number
}

export const DEFAULT_COST: Cost = { memory: 19_456, passes: 2 } // OWASP's first choice: 20–55 ms here

export type StoredHash =
  | { kind: 'argon2id'; memory: number; passes: number; lanes: number; salt: Buffer; tag: Buffer }
  | { kind: 'bcrypt'; cost: number }

const MAX_PASSWORD = 1024 // bytes: longer than any passphrase, and its length costs no time
const BCRYPT_PASSWORD = 72 // bytes: bcrypt reads no more, so a longer one would match by its start

// A hash is computed for anybody who asks: one line of a file must not take the host down.
const MIN_MEMORY = 7168 // KiB: the least that OWASP names (with five passes)
const MAX_MEMORY = 1024 * 1024 // KiB: 1 GiB in each worker
const MAX_WORK = 4 * MAX_MEMORY // KiB passed over: some seconds of one core
const MAX_LANES = 16 // computed one after the other here: more only costs
const WEAK_WORK = 35_840 // KiB passed over: 7168 × 5, the cheapest of OWASP's equal choices
const MIN_BCRYPT = 5 // what `htpasswd -B` writes by itself
const MAX_BCRYPT = 15 // 14 takes 1.7 s here, each step doubles it
const WEAK_BCRYPT = 10 // OWASP's least for bcrypt

const NUMBER = '([1-9][0-9]{0,9})'
const BASE64 = '([A-Za-z0-9+/]{11,100})'
const ARGON2ID = new RegExp(
  `^\\$argon2id\\$v=19\\$m=${NUMBER},t=${NUMBER},p=${NUMBER}\\$${BASE64}\\$${BASE64}$`,
)
const BCRYPT = /^\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}$/

const encode = (bytes: Buffer): string => bytes.toString('base64').replace(/={1,2}$/, '')

/** Only the canonical spelling: anything else decodes to no bytes. */
const decode = (text: string): Buffer => {
  const bytes = Buffer.from(text, 'base64')
  return encode(bytes) === text ? bytes : Buffer.alloc(0)
}

const parseBcrypt = (cost: number): StoredHash | { problem: string } => {
  if (cost < MIN_BCRYPT) return { problem: `bcrypt with a cost below ${MIN_BCRYPT} is too weak` }
  if (cost > MAX_BCRYPT) return { problem: `bcrypt with a cost above ${MAX_BCRYPT} stalls logins` }
  return { kind: 'bcrypt', cost }
}

/** Reads a stored hash strictly. `problem` says what is wrong, and never quotes it. */
export const parseHash = (stored: string): StoredHash | { problem: string } => {
  if (BCRYPT.test(stored)) return parseBcrypt(Number(stored.slice(4, 6)))
  const match = ARGON2ID.exec(stored)
  if (match === null) return { problem: 'the hash is neither argon2id nor bcrypt' }

  const [memory = 0, passes = 0, lanes = 0] = match.slice(1, 4).map(Number)
  const [salt = Buffer.alloc(0), tag = Buffer.alloc(0)] = match.slice(4).map(decode)
  if (salt.length < 8 || salt.length > 64) return { problem: 'the salt is not 8 to 64 bytes' }
  if (tag.length < 16 || tag.length > 64) return { problem: 'the hash is not 16 to 64 bytes' }
  if (memory < MIN_MEMORY) return { problem: `argon2id with m below ${MIN_MEMORY} is too weak` }
  if (memory > MAX_MEMORY || memory * passes > MAX_WORK || lanes > MAX_LANES)
    return { problem: 'argon2id parameters so high that a login would stall the host' }
  return { kind: 'argon2id', memory, passes, lanes, salt, tag }
}

/** Still accepted, but below what OWASP asks for today: a new password would be better. */
export const isWeak = (hash: StoredHash): boolean => {
  if (hash.kind === 'bcrypt') return hash.cost < WEAK_BCRYPT
  return hash.memory * hash.passes < WEAK_WORK
}

/** Why this cannot be a password, or undefined. Nothing is trimmed or folded, and strength is not judged. */
export const findPasswordProblem = (password: string): string | undefined => {
  // Half a surrogate pair becomes U+FFFD in UTF-8: two different passwords would be the same one.
  if (!password.isWellFormed()) return 'the password is not valid Unicode'
  const bytes = Buffer.byteLength(password)
  if (bytes === 0) return 'the password is empty'
  if (bytes > MAX_PASSWORD) return `the password has more than ${MAX_PASSWORD} bytes`
  return undefined
}

const argon2id = (
  password: string,
  options: { memory: number; passes: number; lanes: number; salt: Buffer; length: number },
): Buffer =>
  argon2Sync('argon2id', {
    message: password,
    nonce: options.salt,
    parallelism: options.lanes,
    tagLength: options.length,
    memory: options.memory,
    passes: options.passes,
  })

export const hashPassword = (password: string, cost: Cost): string => {
  const problem = findPasswordProblem(password)
  if (problem !== undefined) throw new Error(problem)
  const salt = randomBytes(16)
  const tag = argon2id(password, { ...cost, lanes: 1, salt, length: 32 })
  return `$argon2id$v=19$m=${cost.memory},t=${cost.passes},p=1$${encode(salt)}$${encode(tag)}`
}

export const verifyPassword = (stored: string, password: string): boolean => {
  if (findPasswordProblem(password) !== undefined) return false
  const hash = parseHash(stored)
  if ('problem' in hash) throw new Error(hash.problem)

  if (hash.kind === 'bcrypt') {
    // bcrypt's key is the password and a NUL, repeated: to it `a` and `a\0a` are the same.
    const exact = Buffer.byteLength(password) <= BCRYPT_PASSWORD && !password.includes('\0')
    const same = compareSync(password, stored) // in any case: every refusal takes as long
    return same && exact
  }
  return timingSafeEqual(argon2id(password, { ...hash, length: hash.tag.length }), hash.tag)
}
