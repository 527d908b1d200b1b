// What an auth section of pjsip.conf says that proves a password, and whether one does. Nothing here is ever printed.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { readAll, readType, readVariable, splitList, strip } from './asterisk-section.ts'
import type { Section } from './asterisk-section.ts'

/** Asterisk's names → ours, Node's, and how many hex digits one has. */
const DIGESTS = {
  MD5: { key: 'md5', hash: 'md5', digits: 32 },
  'SHA-256': { key: 'sha256', hash: 'sha256', digits: 64 },
  'SHA-512-256': { key: 'sha512', hash: 'sha512-256', digits: 64 },
} as const
type Algorithm = keyof typeof DIGESTS
const ALGORITHMS = Object.keys(DIGESTS) as Algorithm[]

/**
 * Each of them is enough, as any algorithm that Asterisk offers a phone is: the password, and hashes of
 * username:realm:password in hex.
 */
export interface Secret {
  password?: string
  md5?: string
  sha256?: string
  sha512?: string
  realm?: string
}

/** What holds for each auth section that says nothing else. */
export interface AuthDefaults {
  realm: string
  uas: string
  uac: string
}

export const readAuthDefaults = (sections: readonly Section[]): AuthDefaults => {
  const global = sections.findLast(
    (section) => !section.template && (readType(section) ?? section.name) === 'global',
  )
  const read = (name: string): string | undefined => global && readVariable(global, name)
  return {
    realm: read('default_realm') ?? 'asterisk', // Asterisk's own default is its name
    uas: read('default_auth_algorithms_uas') ?? 'MD5',
    uac: read('default_auth_algorithms_uac') ?? 'MD5',
  }
}

const findAlgorithm = (name: string): Algorithm | undefined =>
  ALGORITHMS.find((algorithm) => algorithm.toLowerCase() === name.toLowerCase())

/** undefined: there is one among them that Asterisk does not know. */
const readAlgorithms = (list: string): Algorithm[] | undefined => {
  const names = splitList(list)
  const found = names.flatMap((name) => findAlgorithm(name) ?? [])
  return found.length === names.length ? found : undefined
}

/** `ALGORITHM:hex`, or an MD5 alone; several with commas and on several lines, of which the last of an algorithm counts. */
const readDigests = (section: Section): Map<Algorithm, string> | undefined => {
  const digests = new Map<Algorithm, string>()
  for (const one of readAll(section, 'md5_cred', 'password_digest')) {
    const colon = one.indexOf(':')
    const algorithm = findAlgorithm(colon === -1 ? 'MD5' : strip(one.slice(0, colon)))
    const digest = one.slice(colon + 1)
    if (algorithm === undefined || digest.length !== DIGESTS[algorithm].digits) return undefined
    digests.set(algorithm, digest)
  }
  return digests
}

/**
 * As Asterisk 22 has it: a section that it does not load proves nothing here either. `unusable`: why, with the place and
 * the cure.
 */
export const readSecret = (
  section: Section,
  defaults: AuthDefaults,
): { username: string; secret: Secret } | { unusable: string } => {
  const fail = (why: string) => ({ unusable: `${section.place}: [${section.name}] ${why}` })
  const username = readVariable(section, 'username') ?? ''
  if (username === '') {
    return fail('has no username, and Asterisk does not load it: write one')
  }
  const kinds = section.variables.filter(({ name }) => name === 'auth_type')
  if (!kinds.every(({ value }) => /^(?:userpass|md5|digest)$/i.test(value))) {
    return fail('has an auth_type that gives no password to compare: not a user here')
  }
  const digests = readDigests(section)
  if (digests === undefined) {
    return fail(
      'has an md5_cred or password_digest that is none, and Asterisk does not load it: write the hash of username:realm:password in hex, after SHA-256: where it is no MD5',
    )
  }
  const password = readVariable(section, 'password') ?? ''
  const asServer = readAlgorithms(
    readAll(section, 'supported_algorithms_uas').join() || defaults.uas,
  )
  const asClient = readAlgorithms(
    readAll(section, 'supported_algorithms_uac').join() || defaults.uac,
  )
  if (asServer === undefined || asClient === undefined) {
    return fail('names a supported algorithm that is none of MD5, SHA-256 and SHA-512-256')
  }
  if (password === '' && digests.size === 0) return { username, secret: { password } }
  if (password === '' && [...asServer, ...asClient].some((algorithm) => !digests.has(algorithm))) {
    return fail(
      'has no hash for one of its supported_algorithms_uas or supported_algorithms_uac (MD5 where they are not set), and Asterisk does not load it',
    )
  }

  const secret: Secret = asServer.every((algorithm) => digests.has(algorithm)) ? {} : { password }
  for (const algorithm of ALGORITHMS) {
    const digest = asServer.includes(algorithm) ? digests.get(algorithm) : undefined
    if (digest === undefined) continue
    // Asterisk compares it letter by letter with what a phone computes
    if (!/^[0-9a-f]+$/.test(digest)) {
      return fail('has a hash that is not in lower-case hex: no password fits it')
    }
    secret[DIGESTS[algorithm].key] = digest
    secret.realm = readVariable(section, 'realm') || defaults.realm
  }
  return { username, secret }
}

/** Asterisk 22 does not load it, earlier ones may let it in by address; nobody logs in with "". */
export const isEmptySecret = (secret: Secret): boolean => secret.password === ''

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
  const equals = (stored: string, shown: string): boolean =>
    timingSafeEqual(seal(stored), seal(shown))
  return (username, secret, password) => {
    const inRealm = `${username}:${secret.realm}:${password}`
    const proofs = Object.values(DIGESTS).map((digest) => {
      const stored = secret[digest.key]
      return (
        stored !== undefined &&
        equals(stored, createHash(digest.hash).update(inRealm).digest('hex'))
      )
    })
    proofs.push(secret.password !== undefined && equals(secret.password, password))
    return proofs.includes(true)
  }
}
