// What is read of each case of the corpus, beside what a real Asterisk made of it (test/fixtures/asterisk/ask.ts).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadAsteriskConfig } from '../../src/users/asterisk-config.ts'
import {
  createPasswordProof,
  isEmptySecret,
  readAuthDefaults,
  readSecret,
} from '../../src/users/asterisk-secret.ts'
import { readType, readVariable, type Section } from '../../src/users/asterisk-section.ts'
import {
  copyCase,
  listCases,
  PASSWORDS,
  VERDICTS,
  type Verdict,
} from '../fixtures/asterisk/corpus.ts'

const OPTIONS =
  'an option that this Asterisk does not know, or a value of one: it leaves the section out, we do not'
const NAMES =
  'names of sections that differ in their bytes alone are one name here, which lets nobody in'
const TWICE =
  'two auth sections of one name: Asterisk then has none, we leave out that name and no other'
/** Where we differ, and why; docs/operating.md says it to the operator. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  'comment-unopened': OPTIONS,
  'include-twice-auth': TWICE,
  'line-name-space': OPTIONS,
  'name-latin1': NAMES,
  'name-odd': 'a section without a name gets a random one from Asterisk at each start',
  'secret-realm-broken-global': OPTIONS,
  'secret-unknown-option': OPTIONS,
  'twice-auth': TWICE,
  'twice-bad': TWICE,
  'twice-endpoint':
    'Asterisk then has no endpoint at all: it is told, and nobody is logged out for it',
  'type-first-counts': OPTIONS,
  'wizard-md5': OPTIONS,
}

const { version, cases } = JSON.parse(readFileSync(VERDICTS, 'utf8')) as {
  version: string
  cases: Record<string, Verdict>
}
const provesPassword = createPasswordProof()

const read = async (folder: string) => {
  const { sections, problems } = await loadAsteriskConfig(join(folder, 'pjsip.conf'))
  const defaults = readAuthDefaults(sections)
  const seen = { auths: {}, endpoints: {}, contacts: [], registrations: {}, logins: {} } as {
    auths: Record<string, string>
    endpoints: Record<string, object>
    contacts: string[]
    registrations: Record<string, object>
    logins: Record<string, string[]>
  }
  const isTwice = (one: Section): boolean =>
    sections.some(
      (other) =>
        other !== one && !other.template && readType(other) === 'auth' && other.name === one.name,
    )
  for (const section of sections.filter(({ template }) => !template)) {
    const { name } = section
    const take = (...names: string[]): object =>
      Object.fromEntries(
        names.flatMap((one) => {
          const value = readVariable(section, one)
          return value === undefined ? [] : [[one, value.replaceAll(', ', ',')]]
        }),
      )
    const type = readType(section)
    if (type === 'endpoint') {
      seen.endpoints[name] = {
        context: 'default',
        ...take('auth', 'outbound_auth', 'aors', 'context'),
      }
    }
    if (type === 'aor' && readVariable(section, 'contact') !== undefined) seen.contacts.push(name)
    if (type === 'registration') seen.registrations[name] = take('outbound_auth', 'endpoint')
    if (type !== 'auth') continue
    const found = readSecret(section, defaults)
    if ('unusable' in found || isEmptySecret(found.secret) || isTwice(section)) continue
    const { username, secret } = found
    seen.auths[name] = username
    seen.logins[name] = PASSWORDS.flatMap(([password]) =>
      provesPassword(username, secret, password) ? [password] : [],
    )
  }
  seen.contacts.sort()
  return { problems, seen }
}

void t.test(`the corpus against ${version}`, async (t) => {
  const names = listCases()
  t.same(Object.keys(cases).sort(), names, 'Asterisk was asked about each: run ask.ts')
  t.ok(names.length >= 60, `${names.length} cases`)
  for (const name of names) {
    const verdict = cases[name]
    if (verdict === undefined) continue
    const folder = t.testdir({})
    copyCase(name, folder)
    const { problems, seen } = await read(folder)
    const isRefused = verdict.refused.some((line) =>
      /invalid$|of type auth twice$|^Asterisk ends/.test(line),
    )
    // What no password fits is nobody, whether Asterisk lists it or not.
    const fits = (auth: string): boolean => verdict.logins[auth]?.length !== 0
    const expected = {
      isRefused,
      auths: Object.fromEntries(
        Object.entries(verdict.auths).flatMap(([auth, { username }]) =>
          fits(auth) ? [[auth, username]] : [],
        ),
      ),
      endpoints: Object.fromEntries(
        Object.entries(verdict.endpoints).map(([endpoint, values]) => [
          endpoint,
          Object.fromEntries(
            Object.entries(values).filter(([name]) => !['callerid', 'identify'].includes(name)),
          ),
        ]),
      ),
      contacts: Object.keys(verdict.aors)
        .filter((aor) => verdict.aors[aor] !== '')
        .sort(),
      registrations: verdict.registrations,
      logins: Object.fromEntries(
        Object.entries(verdict.logins).map(([auth, taken]) => [
          auth,
          [...new Set(taken.map((line) => line.replace(/^\S+ | \(latin-1\)$/g, '')))],
        ]),
      ),
    }
    const ours = {
      isRefused: problems.length > 0,
      ...seen,
      auths: Object.fromEntries(Object.entries(seen.auths).filter(([auth]) => fits(auth))),
      logins: Object.fromEntries(
        Object.keys(verdict.logins).map((auth) => [auth, seen.logins[auth] ?? []]),
      ),
    }
    const reason = DIFFERENCES[name]
    if (reason !== undefined) t.notSame(ours, expected, `${name}: ${reason}`)
    else if (isRefused) t.ok(ours.isRefused, name)
    else t.same(ours, expected, name)
  }
})
