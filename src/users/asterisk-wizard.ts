// pjsip_wizard.conf → the sections that Asterisk makes of it: one wizard stands for an endpoint, its aor, auth sections,
// what identifies it by address, and registrations elsewhere.
import { inSlices } from '../clock.ts'
import { fold, readVariable, strip } from './asterisk-section.ts'
import type { Section, Variable } from './asterisk-section.ts'

const SLICE = 200 // wizards, 2 ms

/** What Asterisk takes for "yes". */
const isYes = (wizard: Section, name: string): boolean =>
  /^(?:yes|true|y|t|1|on)$/i.test(readVariable(wizard, name) ?? '')

const set = (name: string, value: string): Variable => ({ name, written: name, value })

/** `inbound_auth/username=x` → `username=x`. */
const take = (wizard: Section, prefix: string): Variable[] =>
  wizard.variables.flatMap(({ written, value }) => {
    if (!written.startsWith(prefix) || written.length === prefix.length) return []
    const rest = written.slice(prefix.length)
    return [{ name: fold(rest), written: rest, value }]
  })

const has = (variables: readonly Variable[], name: string): boolean =>
  variables.some((variable) => variable.name === name)

const spellOut = (wizard: Section, warn: (what: string) => void): Section[] => {
  const made: Section[] = []
  const make = (type: string, name: string, variables: readonly Variable[]): void => {
    made.push({ ...wizard, name, variables: [set('type', type), ...variables] })
  }
  const { name: id } = wizard
  const remote = readVariable(wizard, 'remote_hosts') ?? ''
  const hosts = remote === '' ? [] : remote.split(',').map(strip)
  const [sends, accepts] = [isYes(wizard, 'sends_auth'), isYes(wizard, 'accepts_auth')]

  for (const [isWanted, direction, name] of [
    [sends, 'outbound_auth', `${id}-oauth`],
    [accepts, 'inbound_auth', `${id}-iauth`],
  ] as const) {
    if (!isWanted) continue
    const variables = take(wizard, `${direction}/`)
    if (!has(variables, 'username')) {
      warn(`has no ${direction}/username: its auth section is passed over, as Asterisk does`)
      break
    }
    make('auth', name, variables)
  }

  make('endpoint', id, [
    ...take(wizard, 'endpoint/'),
    set('aors', id),
    ...(sends ? [set('outbound_auth', `${id}-oauth`)] : []),
    ...(accepts ? [set('auth', `${id}-iauth`)] : []),
  ])

  const aor = take(wizard, 'aor/')
  const pattern = readVariable(wizard, 'contact_pattern') ?? 'sip:${REMOTE_HOST}'
  if (!has(aor, 'contact') && pattern !== '') {
    aor.push(...hosts.map((host) => set('contact', pattern.replaceAll('${REMOTE_HOST}', host))))
  }
  make('aor', id, aor)

  const line = isYes(wizard, 'sends_line_with_registrations')
  if (!isYes(wizard, 'accepts_registrations') && !line) {
    const identify = take(wizard, 'identify/')
    if (!has(identify, 'match')) identify.push(...hosts.map((host) => set('match', host)))
    if (hosts.length > 0) make('identify', `${id}-identify`, [...identify, set('endpoint', id)])
    else warn('has no remote_hosts and accepts no registrations: nobody can be it')
  }

  if (isYes(wizard, 'sends_registrations')) {
    for (const index of hosts.keys()) {
      make('registration', `${id}-reg-${index}`, [
        ...take(wizard, 'registration/'),
        ...(sends ? [set('outbound_auth', `${id}-oauth`)] : []),
        ...(line ? [set('endpoint', id)] : []),
      ])
    }
  }
  return made
}

export const readWizards = async (
  sections: readonly Section[],
): Promise<{ sections: Section[]; warnings: string[] }> => {
  const warnings: string[] = []
  const byName = new Map<string, Section[]>() // of two of one name the later stays
  for await (const wizard of inSlices(sections, SLICE)) {
    const isWizard = wizard.variables.some(
      ({ written, value }) => written.includes('type') && value === 'wizard',
    )
    if (wizard.template || !isWizard) continue
    const warn = (what: string): void => {
      warnings.push(`${wizard.place}: the wizard [${wizard.name}] ${what}`)
    }
    byName.set(wizard.name, spellOut(wizard, warn))
  }
  return { sections: [...byName.values()].flat(), warnings }
}
