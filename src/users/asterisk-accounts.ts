// Endpoints and auth sections of pjsip.conf → who may log in, and with what. Nobody logs in with what somebody else
// knows: a secret of whoever is left out counts for no user, and one that a provider is shown for none either.
import { inSlices } from '../clock.ts'
import {
  type AccountTerms,
  type Endpoint,
  keepBy,
  type LeftOut,
  lower,
  readEndpoints,
  readLoneAuth,
  type Sections,
  SLICE,
  sortByType,
} from './asterisk-endpoints.ts'
import {
  createPasswordProof,
  credentialOf,
  isEmptySecret,
  readAuthDefaults,
  readSecret,
  type Secret,
} from './asterisk-secret.ts'
import { readAll, readType, readVariable, type Section } from './asterisk-section.ts'
import { numberInCallerid, numberOf } from './number.ts'
import { findUserProblem } from './parse-users.ts'
import type { HeldUser } from './source.ts'

export interface Account extends HeldUser {
  /** Each of them is right: an extension may have several devices. The marks are those of `credentials`. */
  secrets: readonly (readonly [mark: string, secret: Secret])[]
}

/** An auth section as an endpoint names it, and why nobody logs in by that. */
export interface Candidate {
  /** Of the user: what they log in with. */
  name: string
  endpoint: Endpoint
  place: string
  number?: string
  leftOut?: LeftOut | undefined
  /** Whether earlier versions took it for a user. */
  wasUser: boolean
}

interface Proof {
  username: string
  mark: string
  secret: Secret
}

/** All auth sections of one name, and what proves the password of the one that there should be. */
interface Auth {
  sections: Section[]
  proof: Proof | { unusable: string }
  /** What whoever is at the other end may know, of an unusable one too. */
  known: Proof[]
}

type Auths = ReadonlyMap<string, Auth>

const readAuths = async (
  sections: Sections,
  all: readonly Section[],
  warnings: Set<string>,
): Promise<Auths> => {
  const defaults = readAuthDefaults(all)
  const auths = new Map<string, Auth>()
  for await (const section of inSlices(sections.get('auth') ?? [], SLICE)) {
    const { name, place } = section
    const read = readSecret(section, defaults)
    const whole =
      'secret' in read ? { ...read, mark: credentialOf(read.username, read.secret) } : read
    const known = 'mark' in whole ? [whole] : []
    const broken = `${place}: [${name}] is broken or made of a broken template: nobody logs in by it: mend it`
    const proof = section.broken ? { unusable: broken } : whole
    const auth = auths.get(name)
    const [first] = auth?.sections ?? []
    if (!auth || !first) {
      auths.set(name, { sections: [section], proof, known })
      continue
    }
    auth.sections.push(section)
    auth.known.push(...known)
    const unusable = `${place}: [${name}] stands there twice as type=auth, first at ${first.place}: neither lets anybody in, and Asterisk then loads no auth section at all: rename one`
    auth.proof = { unusable }
    warnings.add(unusable)
  }
  return auths
}

interface Uses {
  /** Auth sections that an endpoint's `auth` names. */
  inbound: ReadonlySet<string>
  /** Those that an `auth` or `outbound_auth` names, of a registration too. */
  any: ReadonlySet<string>
  /** By username, the secrets that others know, and who they are. */
  taken: ReadonlyMap<string, readonly { secret: Secret; who: string }[]>
}

const proves = createPasswordProof()

/** Whether the same password fits both, though one may be a hash of it. */
const isSame = (name: string, one: Secret, other: Secret): boolean =>
  credentialOf(name, one) === credentialOf(name, other) ||
  (other.password !== undefined && proves(name, one, other.password)) ||
  (one.password !== undefined && proves(name, other, one.password))

const readUses = async (
  auths: Auths,
  endpoints: readonly Endpoint[],
  registrations: readonly Section[],
): Promise<Uses> => {
  const [inbound, any] = [new Set<string>(), new Set<string>()]
  const namesakes = Map.groupBy(auths, ([name]) => lower(name))
  const taken = new Map<string, { secret: Secret; who: string }[]>()
  const take = (name: string, who: string): void => {
    const found = namesakes.get(lower(name)) ?? []
    for (const { username, secret } of found.flatMap(([, { known }]) => known)) {
      taken.set(username, [...(taken.get(username) ?? []), { secret, who }])
    }
  }
  for (const registration of registrations) {
    for (const name of readAll(registration, 'outbound_auth')) {
      any.add(name)
      take(name, `the registration [${registration.name}]`)
    }
  }
  for await (const endpoint of inSlices(endpoints, SLICE)) {
    for (const name of endpoint.auths) inbound.add(name)
    for (const name of endpoint.known) {
      any.add(name)
      if (endpoint.leftOut) take(name, `[${endpoint.name}], which is left out`)
    }
  }
  return { inbound, any, taken }
}

/** Without its place and name, which stand elsewhere. */
const shorten = (unusable: string): string => `it ${unusable.slice(unusable.indexOf('] ') + 2)}`

/** Why an auth section lets nobody in by an endpoint that is a person's. */
const findFault = (
  { proof }: Auth,
  endpoint: Endpoint,
  taken: Uses['taken'],
): Pick<LeftOut, 'why' | 'cure'> | undefined => {
  if ('unusable' in proof) {
    return { why: shorten(proof.unusable), cure: 'nothing else lets it in' }
  }
  const { username: name, secret } = proof
  const problem = findUserProblem({ name, role: endpoint.role, displayName: name })
  if (problem !== undefined) return { why: problem, cure: 'no name of a user here is like that' }
  if (isEmptySecret(secret)) return { why: 'its secret is empty', cure: 'give it one' }
  const other = taken.get(name)?.find((one) => isSame(name, secret, one.secret))
  if (other === undefined || endpoint.isKept) return undefined
  return {
    why: `its secret is also that of ${other.who}`,
    cure: `give it one of its own, or ${keepBy(endpoint.name)}`,
  }
}

/** The secret stays apart from what is shown. */
interface Device {
  candidate: Candidate
  mark: string
  secret: Secret
}

type Devices = [Device, ...Device[]]

/** What all devices of one name are together, or why they are nobody. */
const joinDevices = (name: string, devices: Devices): Account | { why: string } => {
  const [{ candidate, mark: credential }] = devices
  const { role } = candidate.endpoint
  if (devices.some((device) => device.candidate.endpoint.role !== role)) {
    return { why: `asterisk.rules give ${name} two roles` }
  }
  const numbers = new Set(devices.map((device) => device.candidate.number))
  const secrets = [...new Map(devices.map(({ mark, secret }) => [mark, secret]))]
  return {
    name,
    role,
    displayName: name,
    ...(numbers.size === 1 && numberOf([...numbers][0])),
    credential,
    credentials: secrets.map(([mark]) => mark),
    disabled: false,
    secrets,
  }
}

/** Each auth section with each endpoint that names it, and those that none names. */
function* pairUp(
  auths: Auths,
  endpoints: readonly Endpoint[],
  { inbound }: Uses,
  readLone: (section: Section) => Endpoint,
): Generator<{ endpoint: Endpoint; auth: Auth; section: Section }> {
  for (const endpoint of endpoints) {
    for (const name of endpoint.auths) {
      const auth = auths.get(name)
      if (auth) for (const section of auth.sections) yield { endpoint, auth, section }
    }
  }
  for (const auth of auths.values()) {
    for (const section of auth.sections) {
      if (!inbound.has(section.name)) yield { endpoint: readLone(section), auth, section }
    }
  }
}

/** By the rule of the versions before this one, which read no wizard: a trunk's is what only outbound_auth names. */
const wasUser = (section: Section, { inbound, any }: Uses): boolean =>
  !section.place.includes('/pjsip_wizard.conf:') &&
  (inbound.has(section.name) || !any.has(section.name)) &&
  ['password', 'md5_cred'].some((name) => (readVariable(section, name) ?? '') !== '')

export const readAccounts = async (all: readonly Section[], terms: AccountTerms) => {
  const sections = await sortByType(all)
  const endpoints = await readEndpoints(sections, terms)
  const warnings = new Set<string>()
  const auths = await readAuths(sections, all, warnings)
  const uses = await readUses(auths, endpoints, sections.get('registration') ?? [])

  const found: Candidate[] = []
  const users = new Map<string, Devices>()
  const used = new Set(endpoints.flatMap(({ rules }) => rules))
  // A template, or what is broken, may have been an endpoint too.
  const isAuthAlone = all.every((section) => (readType(section) ?? 'auth') === 'auth')
  const pairs = pairUp(auths, endpoints, uses, (section) =>
    readLoneAuth(section, isAuthAlone, terms),
  )
  for await (const { endpoint, auth, section } of inSlices(pairs, SLICE)) {
    const { proof } = auth
    const { place } = section
    const name = readVariable(section, 'username') || section.name
    const candidate: Candidate = {
      name,
      endpoint,
      place,
      ...(terms.numberFrom === 'callerid' ? numberInCallerid(endpoint.callerid) : numberOf(name)),
      wasUser: wasUser(section, uses),
    }
    found.push(candidate)
    for (const rule of endpoint.rules) used.add(rule)
    const fault = endpoint.leftOut ? undefined : findFault(auth, endpoint, uses.taken)
    candidate.leftOut = endpoint.leftOut ?? (fault && { ...fault, isMeant: false })
    if (endpoint.leftOut && 'unusable' in proof) {
      candidate.leftOut = { ...endpoint.leftOut, cure: shorten(proof.unusable) } // no rule helps
    }
    if (fault && 'unusable' in proof) warnings.add(proof.unusable)
    else if (fault && candidate.wasUser) {
      warnings.add(
        `${place}: [${endpoint.name}]: ${fault.why}: nobody logs in by it: ${fault.cure}`,
      )
    }
    if (candidate.leftOut || 'unusable' in proof) continue
    const device = { candidate, ...proof }
    const devices = users.get(name)
    if (devices) devices.push(device)
    else users.set(name, [device])
  }

  const untold = isAuthAlone && found.find(({ endpoint, leftOut }) => !endpoint.isKept && !leftOut)
  if (untold) {
    warnings.add(
      `${untold.place}: only auth sections are here, which cannot tell a trunk's from a phone's: name the pjsip.conf that includes this file, or say by asterisk.rules who is a user`,
    )
  }

  for (const { written } of terms.rules.filter((rule) => !used.has(rule))) {
    warnings.add(
      `asterisk.rules: ${JSON.stringify(written)} fits no endpoint, by its name or context: correct it, or take it out`,
    )
  }

  const accounts = new Map<string, Account>()
  for await (const [name, devices] of inSlices(users, SLICE)) {
    const account = joinDevices(name, devices)
    const { place } = devices[0].candidate
    if ('why' in account) {
      const leftOut = { why: account.why, cure: 'give all its devices one', isMeant: false }
      warnings.add(`${place}: ${leftOut.why}: nobody logs in by that name: ${leftOut.cure}`)
      for (const { candidate } of devices) candidate.leftOut = leftOut
      continue
    }
    accounts.set(name, account)
    if (
      account.number === undefined &&
      devices.some(({ candidate }) => candidate.number !== undefined)
    ) {
      warnings.add(
        `${place}: the devices of ${name} do not all say one number: no calls are theirs: give them one callerid`,
      )
    }
  }
  return { accounts, found, warnings: [...warnings] }
}
