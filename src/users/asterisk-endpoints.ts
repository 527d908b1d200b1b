// Which endpoints of pjsip.conf are people's. Each is judged by itself, before any usernames are joined: what a trunk, a
// gateway or a shared guest account knows never counts for a person of the same name.
import { inSlices } from '../clock.ts'
import type { AccountRule } from '../config/account-rules.ts'
import { readAll, readType, readVariable, type Section, splitList } from './asterisk-section.ts'

export interface AccountTerms {
  /** Of whoever no rule gives another. */
  role: string
  trunkContexts: readonly RegExp[]
  rules: readonly AccountRule[]
  /** Where the number of a user's calls stands. */
  numberFrom: 'username' | 'callerid'
}

export interface LeftOut {
  why: string
  /** What lets it log in. */
  cure: string
  /** A rule of the operator's says so. */
  isMeant: boolean
}

export interface Endpoint {
  /** Of an auth section that no endpoint names: that section's, and nothing else is known. */
  name: string
  place: string
  context: string
  callerid: string
  /** Static ones, of its aors. */
  contacts: readonly string[]
  auths: readonly string[]
  /** All that whoever is at its other end may know: any line of auth or outbound_auth. */
  known: readonly string[]
  role: string
  /** The operator's that fit it. */
  rules: readonly AccountRule[]
  /** By a rule, which nothing else outweighs. */
  isKept: boolean
  leftOut?: LeftOut | undefined
}

export type Sections = ReadonlyMap<string, readonly Section[]>

export const SLICE = 200 // sections, 4 ms

const BROKEN = 'its section is broken: mend it'
const UNKNOWN = 'unknown' // what contact a broken aor may have

/** What takes logins away. */
const TELLING = ['endpoint', 'aor', 'identify', 'registration']

/** Those that are no templates, by their type; what is broken may be any that takes logins away. */
export const sortByType = async (all: readonly Section[]): Promise<Sections> => {
  const sorted = new Map<string, Section[]>()
  for await (const section of inSlices(all, SLICE)) {
    if (section.template) continue
    const type = readType(section)
    const types = type === undefined && section.broken ? TELLING : [type]
    for (const one of types) {
      if (one === undefined) continue
      const namesakes = sorted.get(one)
      if (namesakes) namesakes.push(section)
      else sorted.set(one, [section])
    }
  }
  return sorted
}

/** A reference that Asterisk misses by its case was meant all the same. */
export const lower = (name: string): string => name.toLowerCase()

/** Of a broken one the name may be lost: it is mostly called as what it names. */
const readNamed = (sections: readonly Section[] = []): Set<string> =>
  new Set(
    sections.flatMap((section) =>
      [readVariable(section, 'endpoint') ?? '', section.broken ? section.name : ''].map(lower),
    ),
  )

/** Wazo makes one account a meeting, and gives it to every guest. */
const GUEST = /^wazo-meeting-.*guest$/i

const readReferences = async (sections: Sections, { trunkContexts }: AccountTerms) => {
  const registrations = sections.get('registration') ?? []
  const registered = readNamed(registrations)
  const readShown = (section: Section): string[] => readAll(section, 'outbound_auth').map(lower)
  const shown = new Set(registrations.flatMap(readShown))
  const identified = readNamed(sections.get('identify'))
  const contacts = new Map<string, string[]>()
  for await (const aor of inSlices(sections.get('aor') ?? [], SLICE)) {
    const key = lower(aor.name)
    const found = readAll(aor, 'contact')
    contacts.set(key, [...(contacts.get(key) ?? []), ...found, ...(aor.broken ? [UNKNOWN] : [])])
  }

  /** FreePBX writes an identify for an extension whose Match field is set. */
  const isExtension = ({ name, context, auths }: Endpoint): boolean =>
    lower(context) === 'from-internal' && auths.join() === `${name}-auth`

  /** Why it is no person's, of what the files say. */
  const findReason = (section: Section, endpoint: Endpoint): string | undefined => {
    const { name, context } = endpoint
    const key = lower(name)
    if (section.broken) return BROKEN
    if (registered.has(key)) return 'a registration names it'
    if (readShown(section).some((auth) => shown.has(auth)))
      return 'a registration shares its outbound_auth'
    if (identified.has(key) && !isExtension(endpoint)) return 'an identify names it'
    if (endpoint.contacts.includes(UNKNOWN)) return 'its aor is broken: mend it'
    if (endpoint.contacts.length > 0) return 'its aor has a static contact'
    if (trunkContexts.some((pattern) => pattern.test(context)))
      return `its context ${context} is one of asterisk.trunk_contexts`
    if (readAll(section, 'set_var').some((set) => /^_*providerID\s*=/i.test(set)))
      return 'its set_var has a providerID'
    if (GUEST.test(name) || GUEST.test(context)) return 'a guest account, which many share'
    return undefined
  }
  const contactsOf = (section: Section): string[] =>
    splitList(readVariable(section, 'aors') ?? '').flatMap((aor) => contacts.get(lower(aor)) ?? [])
  return { contactsOf, findReason }
}

const applyRules = (
  { name, context }: { name: string; context: string },
  { role, rules }: AccountTerms,
) => {
  const fitting = rules.filter(({ of, pattern }) =>
    of === 'name' ? pattern.test(name) : context !== '' && pattern.test(context),
  )
  const verdict = fitting.find(({ says }) => typeof says === 'string')
  const roles = fitting.flatMap(({ says }) => (typeof says === 'string' ? [] : [says.role]))
  return { verdict, role: roles[0] ?? role, rules: fitting }
}

export const keepBy = (name: string): string => {
  const rule = JSON.stringify(`name ${name} keep`)
  return `${rule} in asterisk.rules lets it in`
}

/** `findReason`: is asked where no rule of the operator's says anything. */
const judge = (
  endpoint: Omit<Endpoint, 'role' | 'rules' | 'isKept' | 'leftOut'>,
  terms: AccountTerms,
  findReason: (endpoint: Endpoint) => string | undefined,
): Endpoint => {
  const { verdict, role, rules } = applyRules(endpoint, terms)
  const judged: Endpoint = { ...endpoint, role, rules, isKept: verdict?.says === 'keep' }
  const why = verdict ? `the rule ${JSON.stringify(verdict.written)}` : findReason(judged)
  if (why === undefined || judged.isKept) return judged
  const cure = verdict ? 'take that rule out' : keepBy(endpoint.name)
  return { ...judged, leftOut: { why, cure, isMeant: verdict !== undefined } }
}

export const readEndpoints = async (
  sections: Sections,
  terms: AccountTerms,
): Promise<Endpoint[]> => {
  const { contactsOf, findReason } = await readReferences(sections, terms)
  const endpoints: Endpoint[] = []
  for await (const section of inSlices(sections.get('endpoint') ?? [], SLICE)) {
    const { name, place } = section
    const endpoint = {
      name,
      place,
      context: readVariable(section, 'context') || 'default',
      callerid: readVariable(section, 'callerid') ?? '',
      contacts: contactsOf(section),
      auths: splitList(readVariable(section, 'auth') ?? ''),
      known: readAll(section, 'auth', 'outbound_auth'),
    }
    endpoints.push(judge(endpoint, terms, (judged) => findReason(section, judged)))
  }
  return endpoints
}

/**
 * An auth section that no endpoint names: Asterisk lets nobody in by it. Where there is nothing but auth sections, as in
 * FreePBX's pjsip.auth.conf, nobody can tell, and each counts as a person's.
 */
export const readLoneAuth = (
  { name, place }: Section,
  isAuthAlone: boolean,
  terms: AccountTerms,
): Endpoint => {
  const nothing = { context: '', callerid: '', contacts: [] }
  const lone = { name, place, ...nothing, auths: [name], known: [name] }
  return judge(lone, terms, () => (isAuthAlone ? undefined : 'no endpoint names it in auth='))
}
