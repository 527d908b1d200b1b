// Sections of pjsip.conf → who may log in, and with what. A trunk's credentials never make a user: the
// provider at the other end knows them.
import { nextTurn } from '../clock.ts'
import { readVariable, strip } from './asterisk-config.ts'
import type { Section } from './asterisk-config.ts'
import { credentialOf, isEmptySecret, readDefaultRealm, readSecret } from './asterisk-secret.ts'
import type { Secret } from './asterisk-secret.ts'
import { type HeldUser, numberOf } from './source.ts'

export interface Account extends HeldUser {
  secret: Secret
}

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
  const defaultRealm = readDefaultRealm(sections)

  for (const [index, section] of sections.entries()) {
    if (index % SLICE === SLICE - 1) await nextTurn()
    if (readVariable(section, 'type') !== 'auth') continue
    if (outbound.has(section.name) && !inbound.has(section.name)) continue
    const name = readVariable(section, 'username') || section.name
    if (name === '') {
      problems.push(`${section.place}: an auth section without a name: give it a username`)
      continue
    }
    const read = readSecret(section, defaultRealm)
    if ('unusable' in read) {
      warnings.push(read.unusable)
      continue
    }
    const { secret } = read
    const account: Account = {
      name,
      role,
      displayName: name,
      ...numberOf(name),
      credential: credentialOf(name, secret),
      disabled: isEmptySecret(secret),
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
