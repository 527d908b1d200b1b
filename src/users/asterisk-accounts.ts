// Sections of pjsip.conf → who may log in, and with what. A trunk's credentials never make a user: the
// provider at the other end knows them.
import { createHash } from 'node:crypto'
import { nextTurn } from '../clock.ts'
import { readVariable, strip } from './asterisk-config.ts'
import type { Section } from './asterisk-config.ts'
import type { HeldUser } from './source.ts'

export interface Account extends HeldUser {
  /** The password, or MD5(username:realm:password) in lower-case hex. */
  secret: { password: string } | { md5: string; realm: string }
}

/**
 * Unkeyed and cut to 32 bits. Asterisk's file beside it holds the secret in plain, so a key would
 * protect nothing there; and a stolen store must not tell a guessed password from a wrong one for sure.
 */
const credentialOf = (name: string, secret: Account['secret']): string =>
  createHash('sha256')
    .update(JSON.stringify([name, secret]))
    .digest('hex')
    .slice(0, 8)

const SLICE = 200 // sections, 4 ms

/** Names of auth sections that an endpoint, registration or identify refers to. */
const readReferences = (sections: readonly Section[], variable: string): Set<string> =>
  new Set(
    sections.flatMap((section) => (readVariable(section, variable) ?? '').split(',').map(strip)),
  )

export const readAccounts = async (all: readonly Section[], role: string) => {
  const accounts = new Map<string, Account>()
  const problems: string[] = []
  const warnings: string[] = []
  const sections = all.filter(({ template }) => !template)
  const outbound = readReferences(sections, 'outbound_auth')
  const inbound = readReferences(sections, 'auth')
  const global = sections.findLast((section) => readVariable(section, 'type') === 'global')
  // Asterisk's own default for a realm that nobody set is its name
  const defaultRealm = (global && readVariable(global, 'default_realm')) || 'asterisk'

  const readSecret = (section: Section): Account['secret'] | undefined => {
    const kind = (readVariable(section, 'auth_type') || 'userpass').toLowerCase()
    const password = readVariable(section, 'password')
    if (kind === 'userpass' || (kind === 'digest' && password !== undefined)) {
      return { password: password ?? '' }
    }
    if (kind !== 'md5') {
      warnings.push(
        `${section.place}: [${section.name}] has an auth_type that gives no password to compare: not a user here`,
      )
      return undefined
    }
    const md5 = (readVariable(section, 'md5_cred') ?? '').toLowerCase()
    if (md5 !== '' && !/^[0-9a-f]{32}$/.test(md5)) {
      problems.push(
        `${section.place}: [${section.name}] has an md5_cred that is not 32 hex digits: write MD5(username:realm:password)`,
      )
      return undefined
    }
    return { md5, realm: readVariable(section, 'realm') || defaultRealm }
  }

  for (const [index, section] of sections.entries()) {
    if (index % SLICE === SLICE - 1) await nextTurn()
    if (readVariable(section, 'type') !== 'auth') continue
    if (outbound.has(section.name) && !inbound.has(section.name)) continue
    const name = readVariable(section, 'username') || section.name
    if (name === '') {
      problems.push(`${section.place}: an auth section without a name: give it a username`)
      continue
    }
    const secret = readSecret(section)
    if (secret === undefined) continue
    const account: Account = {
      name,
      role,
      displayName: name,
      credential: credentialOf(name, secret),
      // Without any secret Asterisk may let it in by address; nobody logs in with "".
      disabled: ('md5' in secret ? secret.md5 : secret.password) === '',
      secret,
    }
    const other = accounts.get(name)
    if (other !== undefined && JSON.stringify(other.secret) !== JSON.stringify(secret)) {
      problems.push(
        `${section.place}: [${section.name}] gives the username ${name} a second password: give it a name of its own; if it is a trunk's, name the pjsip.conf that includes everything, so that outbound_auth is seen`,
      )
    } else accounts.set(name, account)
  }
  return { accounts, problems, warnings }
}
