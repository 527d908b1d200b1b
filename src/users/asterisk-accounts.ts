// Sections of pjsip.conf → who may log in, and with what. A trunk's credentials never make a user: the
// provider at the other end knows them.
import { nextTurn } from '../clock.ts'
import { readVariable, strip } from './asterisk-config.ts'
import type { Section } from './asterisk-config.ts'
import { credentialOf, isEmptySecret, readDefaultRealm, readSecret } from './asterisk-secret.ts'
import type { Secret } from './asterisk-secret.ts'
import { type HeldUser, numberOf } from './source.ts'

export interface Account extends HeldUser {
  /** Each of them is right: an extension may have several devices. The marks are those of `credentials`. */
  secrets: readonly (readonly [mark: string, secret: Secret])[]
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
    const credential = credentialOf(name, secret)
    const secrets = new Map(accounts.get(name)?.secrets)
    // Without any secret Asterisk may let a device in by address; nobody logs in with "".
    if (!isEmptySecret(secret)) secrets.set(credential, secret)
    accounts.set(name, {
      name,
      role,
      displayName: name,
      ...numberOf(name),
      credential: [...secrets.keys()][0] ?? credential,
      credentials: [...secrets.keys()],
      disabled: secrets.size === 0,
      secrets: [...secrets],
    })
  }
  return { accounts, problems, warnings }
}
