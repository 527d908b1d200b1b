// What an auth section of pjsip.conf says that proves a password, and whether one does. Nothing here is ever printed.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { readVariable } from './asterisk-config.ts'
import type { Section } from './asterisk-config.ts'

/** The password, or MD5(username:realm:password) in lower-case hex. */
export type Secret = { password: string } | { md5: string; realm: string }

/** Of whatever sets none: Asterisk's own default. */
export const readDefaultRealm = (sections: readonly Section[]): string => {
  const global = sections.findLast((section) => readVariable(section, 'type') === 'global')
  return (global && readVariable(global, 'default_realm')) || 'asterisk'
}

/** `unusable`: why it proves no password, with the place and the cure. */
export const readSecret = (
  section: Section,
  defaultRealm: string,
): { secret: Secret } | { unusable: string } => {
  const kind = (readVariable(section, 'auth_type') || 'userpass').toLowerCase()
  const password = readVariable(section, 'password')
  if (kind === 'userpass' || (kind === 'digest' && password !== undefined)) {
    return { secret: { password: password ?? '' } }
  }
  if (kind !== 'md5') {
    return {
      unusable: `${section.place}: [${section.name}] has an auth_type that gives no password to compare: not a user here`,
    }
  }
  const md5 = (readVariable(section, 'md5_cred') ?? '').toLowerCase()
  if (md5 !== '' && !/^[0-9a-f]{32}$/.test(md5)) {
    return {
      unusable: `${section.place}: [${section.name}] has an md5_cred that is not 32 hex digits: write MD5(username:realm:password)`,
    }
  }
  return { secret: { md5, realm: readVariable(section, 'realm') || defaultRealm } }
}

/** Without any secret Asterisk may let it in by address; nobody logs in with "". */
export const isEmptySecret = (secret: Secret): boolean =>
  ('md5' in secret ? secret.md5 : secret.password) === ''

/**
 * Unkeyed and cut to 32 bits. Asterisk's file beside it holds the secret in plain, so a key would
 * protect nothing there; and a stolen store must not tell a guessed password from a wrong one for sure.
 */
export const credentialOf = (username: string, secret: Secret): string =>
  createHash('sha256')
    .update(JSON.stringify([username, secret]))
    .digest('hex')
    .slice(0, 8)

export type ProvesPassword = (username: string, secret: Secret, password: string) => boolean

/** Under a key that nobody knows: equal lengths, and the time does not tell how much of a guess is right. */
export const createPasswordProof = (): ProvesPassword => {
  const key = randomBytes(32)
  const seal = (text: string): Buffer => createHmac('sha256', key).update(text).digest()
  return (username, secret, password) => {
    const [stored, shown] =
      'md5' in secret
        ? [
            secret.md5,
            createHash('md5').update(`${username}:${secret.realm}:${password}`).digest('hex'),
          ]
        : [secret.password, password]
    return timingSafeEqual(seal(stored), seal(shown))
  }
}
