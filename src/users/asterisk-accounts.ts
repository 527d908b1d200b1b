// Sections of pjsip.conf → who may log in, and with what. A trunk's credentials never make a user: the
// provider at the other end knows them.
import { nextTurn } from '../clock.ts'
import { credentialOf, isEmptySecret, readAuthDefaults, readSecret } from './asterisk-secret.ts'
import type { Secret } from './asterisk-secret.ts'
import { readType, readVariable, strip } from './asterisk-section.ts'
import type { Section } from './asterisk-section.ts'
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
  const warnings: string[] = []
  const sections = all.filter(({ template }) => !template)
  const outbound = readReferences(sections, 'outbound_auth')
  const inbound = readReferences(sections, 'auth')
  const defaults = readAuthDefaults(sections)

  for (const [index, section] of sections.entries()) {
    if (index % SLICE === SLICE - 1) await nextTurn()
    if (readType(section) !== 'auth') continue
    if (outbound.has(section.name) && !inbound.has(section.name)) continue
    const read = readSecret(section, defaults)
    if ('unusable' in read) {
      warnings.push(read.unusable)
      continue
    }
    const { secret, username: name } = read
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
  return { accounts, warnings }
}
