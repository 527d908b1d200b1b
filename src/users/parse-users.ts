// The users file as text → users, or every problem at once: `name:hash:role:display name`, as htpasswd
// writes it and a little more. No problem ever quotes the file: a hash or a password may stand there.
import { isUtf8 } from 'node:buffer'
import { createHash } from 'node:crypto'
import { inSlices } from '../clock.ts'
import { isWeak, parseHash, type StoredHash } from '../passwords/hash.ts'
import { numberOf } from './number.ts'
import type { HeldUser, User } from './source.ts'

export interface FileUser extends HeldUser {
  /** The hash, without the mark of a disabled user. */
  stored: string
  kind: StoredHash['kind']
  /** Accepted, but below what is asked for today. */
  weak: boolean
}

export const DISABLED = '!' // before the hash, as `passwd -l` has it: enabling brings the password back

const MAX_NAME = 64 // bytes
const MAX_DISPLAY_NAME = 256 // bytes
const NEW_PASSWORD = 'set a new one with `postern user password`'

/** Also what other programs take for the end of a line: one user could become two, or rewrite a terminal. */
const hasControl = (text: string): boolean =>
  /[\p{Cc}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/u.test(text)

const findNameProblem = (name: string): string | undefined => {
  const bytes = Buffer.byteLength(name)
  if (bytes === 0) return 'no name: write name:hash:role:display name'
  if (bytes > MAX_NAME) return `the name has more than ${MAX_NAME} bytes: take a shorter one`
  // A name goes into grants, channels and paths, each of which means something by these.
  if (name === '.' || name === '..') return 'a name cannot be . or ..: take another one'
  if (/[:/]/.test(name)) return 'a name cannot hold : or /: take another one'
  if (name.startsWith('#')) return 'a name cannot start with #: that is a comment'
  if (name !== name.trim()) return 'a space or a byte order mark around the name: remove it'
  if (hasControl(name)) return 'a control character in the name: remove it'
  return undefined
}

const findRoleProblem = (role: string): string | undefined => {
  if (Buffer.byteLength(role) > MAX_NAME)
    return `the role has more than ${MAX_NAME} bytes: take a role of the configuration`
  if (hasControl(role)) return 'a control character in the role: remove it'
  if (role.includes(':')) return 'a role cannot hold a colon: take a role of the configuration'
  if (role !== role.trim()) return 'a space around the role: remove it'
  return undefined
}

const findDisplayNameProblem = (displayName: string): string | undefined => {
  if (Buffer.byteLength(displayName) > MAX_DISPLAY_NAME)
    return `the display name has more than ${MAX_DISPLAY_NAME} bytes: take a shorter one`
  if (hasControl(displayName)) return 'a control character in the display name: remove it'
  return undefined
}

/** Why this cannot be a line of the file, or undefined. */
export const findUserProblem = (
  user: Pick<User, 'name' | 'role' | 'displayName'>,
): string | undefined =>
  findNameProblem(user.name) ??
  findRoleProblem(user.role) ??
  findDisplayNameProblem(user.displayName)

/** Not a user's line: empty, or a comment. */
export const isRemark = (line: string): boolean => {
  const text = line.trim()
  return text === '' || text.startsWith('#')
}

/** A user, what is wrong, or undefined for a comment or an empty line. */
const parseLine = (bytes: Buffer): FileUser | { problem: string } | undefined => {
  if (!isUtf8(bytes)) return { problem: 'not UTF-8: save the file as UTF-8' }
  const line = bytes.toString() // a byte order mark stays in it, to be found: it would hide in the first name
  if (isRemark(line)) return undefined

  const [name = '', secret, role = '', ...rest] = line.replace(/\r$/, '').split(':')
  const displayName = rest.join(':')
  if (secret === undefined) return { problem: 'no colon: write name:hash:role:display name' }
  const problem = findUserProblem({ name, role, displayName })
  if (problem !== undefined) return { problem }

  const disabled = secret.startsWith(DISABLED)
  const stored = disabled ? secret.slice(DISABLED.length) : secret
  const hash = parseHash(stored)
  if ('problem' in hash) return { problem: `${hash.problem}: ${NEW_PASSWORD}` }
  return {
    name,
    role: role || 'user',
    displayName: displayName || name,
    ...numberOf(name),
    credential: createHash('sha256').update(stored).digest('base64url').slice(0, 16),
    stored,
    kind: hash.kind,
    weak: isWeak(hash),
    disabled,
  }
}

// Latin-1 keeps every byte: a line that is not UTF-8 is told from the others.
const splitLines = (content: Uint8Array): string[] =>
  Buffer.from(content).toString('latin1').split('\n')

const SLICE = 200 // lines: 4 ms. Checks must not wait while 100,000 lines take 1.9 s

export const parseUsers = async (
  content: Uint8Array,
  file: string,
): Promise<{ users: ReadonlyMap<string, FileUser> } | { problems: readonly string[] }> => {
  const problems: string[] = [] // `file:line: what is wrong: the cure`
  const users = new Map<string, FileUser>()
  const lineOf = new Map<string, number>()
  let number = 0
  for await (const line of inSlices(splitLines(content), SLICE)) {
    number++
    const parsed = parseLine(Buffer.from(line, 'latin1'))
    if (parsed === undefined) continue
    if ('problem' in parsed) {
      problems.push(`${file}:${number}: ${parsed.problem}`)
      continue
    }
    const first = lineOf.get(parsed.name)
    if (first === undefined) lineOf.set(parsed.name, number)
    else problems.push(`${file}:${number}: the same name as in line ${first}: remove one of them`)
    users.set(parsed.name, parsed)
  }
  return problems.length > 0 ? { problems } : { users }
}
