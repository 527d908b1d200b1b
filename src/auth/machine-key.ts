// What a machine key is as text: `pstrn_`, 256 random bits and a checksum of both in base 62, so that scanners for secrets
// find it by /\bpstrn_[0-9A-Za-z]{49}\b/, and a slip of who types it is told from a guess. And what stands beside it: the
// name, the id, and the grants as an operator writes them.

import { hash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'

import { type Action, findGrant, type Grant, parseGrant } from './grants.ts'
import { NOBODY } from './pattern.ts'

const PREFIX = 'pstrn_'
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const SECRET = 43 // digits: 256 bits
const CHECKSUM = 6 // digits: 32 bits
const LENGTH = PREFIX.length + SECRET + CHECKSUM
const FORM = /^pstrn_[0-9A-Za-z]{49}$/

const inDigits = (value: bigint, count: number): string => {
  let text = ''
  for (let left = value; text.length < count; left /= 62n) text = DIGITS[Number(left % 62n)] + text
  return text
}

const checksum = (text: string): string => inDigits(BigInt(crc32(text)), CHECKSUM)

export const createMachineKey = (): string => {
  const text = PREFIX + inDigits(BigInt(`0x${randomBytes(32).toString('hex')}`), SECRET)
  return text + checksum(text)
}

/** Whether it is shown as one, well-formed or not. */
export const isMachineKey = (text: string): boolean => text.startsWith(PREFIX)

/** Else it was mistyped, or cut. */
export const isWhole = (text: string): boolean =>
  FORM.test(text) && text.endsWith(checksum(text.slice(0, -CHECKSUM)))

/** What it is found by; undefined where its length alone says that it is none. It has 256 random bits: no dictionary helps. */
export const hashMachineKey = (text: string): string | undefined =>
  text.length === LENGTH ? hash('sha256', text, 'base64url') : undefined

const ID = /^key_[0-9a-f]{16}(?=-|$)/

/** No session's id, and no other system's, looks like it. */
export const createMachineKeyId = (): string => `key_${randomBytes(8).toString('hex')}`

/** The machine key that a session, a ticket or a stream of this sid hangs on. */
export const machineKeyOf = (sid: string): string | undefined =>
  sid.startsWith('key_') ? ID.exec(sid)?.[0] : undefined

/** Of X-Auth-User and the logs: a prefix that no name of a user may have. */
const USER = 'key:'

export const machineUser = (name: string): string => USER + name
export const isMachineUser = (username: string): boolean => username.startsWith(USER)

/** None that could be an id: `remove` takes either. */
export const isMachineKeyName = (text: string): boolean =>
  /^(?!key_)[a-z0-9][a-z0-9._-]{0,39}$/.test(text)

export interface MachineGrants {
  readonly grants: readonly Grant[]
  /** Names of users for whom it may make tickets. */
  readonly users: readonly Grant[]
}

const TICKET = /^ticket:(?=.)/

/** `action:pattern` as for a role, or `ticket:PATTERN` of users' names; or what is wrong, in words that name the cure. */
export const parseMachineGrants = (
  texts: readonly string[],
): MachineGrants | { problem: string } => {
  const found = { grants: [] as Grant[], users: [] as Grant[] }
  for (const text of texts) {
    const isTicket = TICKET.test(text)
    const grant = parseGrant(isTicket ? text.replace(TICKET, 'read:') : text)
    if ('problem' in grant) return { problem: `${text} ${grant.problem}` }
    if (/[{}]/.test(text))
      return { problem: `${text} has a brace: a machine is no user, and has no name, id or role` }
    if (/^subscribe:me(?:\/|$)/.test(text))
      return { problem: `${text} names a user's own channels: a machine has none` }
    found[isTicket ? 'users' : 'grants'].push(grant)
  }
  return found
}

/** Which of them allows it; none does for `me/`, which is a user's own. */
export const findMachineGrant = (
  { grants }: Pick<MachineGrants, 'grants'>,
  action: Action,
  resource: string,
): Grant | undefined =>
  action === 'subscribe' && resource.startsWith('me/')
    ? undefined
    : findGrant(grants, action, resource, NOBODY)
