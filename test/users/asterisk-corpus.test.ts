// What is read of each case of the corpus, beside what a real Asterisk made of it (test/fixtures/asterisk/ask.ts).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readAccounts } from '../../src/users/asterisk-accounts.ts'
import { loadAsteriskConfig } from '../../src/users/asterisk-config.ts'
import {
  createPasswordProof,
  isEmptySecret,
  readAuthDefaults,
  readSecret,
} from '../../src/users/asterisk-secret.ts'
import { readType, readVariable } from '../../src/users/asterisk-section.ts'
import {
  copyCase,
  listCases,
  PASSWORDS,
  VERDICTS,
  type Verdict,
} from '../fixtures/asterisk/corpus.ts'

const OPTIONS =
  'an option that this Asterisk does not know, or a value of one: it leaves the section out, we do not'
const MISSING =
  'in an included file: Asterisk passes over the rest of it, which may be what tells a trunk, and we refuse'
/** Where we differ, and why; docs/operating.md says it to the operator. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  'comment-unopened': OPTIONS,
  'include-folder-own': MISSING,
  'include-missing-deep': MISSING,
  'line-name-space': OPTIONS,
  'name-odd': 'a section without a name gets a random one from Asterisk at each start',
  'secret-realm-broken-global': OPTIONS,
  'secret-unknown-option': OPTIONS,
  'twice-endpoint':
    'Asterisk then has no endpoint at all: it is told, and nobody is logged out for it',
  'type-first-counts': OPTIONS,
  'wizard-md5': OPTIONS,
}

/**
 * What makes Asterisk refuse a file or type, or the rest of an included file, takes the logins of that section alone
 * here. Who then logs in, and by what password.
 */
const GO_ON: Readonly<Record<string, string>> = {
  'add-filter-bad': '',
  'add-filter-none': '',
  'add-filter-two': '',
  'add-missing': '201 one, 203 one',
  'add-template': '',
  'add-template-filter': '201 two',
  'before-section': '201 one',
  'line-utf16': '',
  'template-self': '202 two',
  'add-before': '202 two',
  'include-twice-other': '202 three',
  'header-open': '202 one',
  'header-open-late': '201 one, 203 one',
  'header-options-open': '202 one',
  'include-broken': '201 one, 203 one, 205 one, 202 one',
  'include-broken-glob': '201 one, 203 one, 205 one, 202 one',
  'include-broken-many': '201 one, 202 one',
  'include-deep':
    '0 one, 1 one, 2 one, 3 one, 4 one, 5 one, 6 one, 7 one, 8 one, 9 one, 10 one, 10z one, 9z one, 8z one, 7z one, 6z one, 5z one, 4z one, 3z one, 2z one, 1z one, z one',
  'include-empty-name': '201 one, 202 one',
  'include-is-folder': '201 one, 202 one',
  'include-loop': '201 one, 202 one',
  'include-self': '201 one, 202 one',
  'include-self-tail': '201 one',
  'include-self-try': '201 one',
  'include-try-broken': '201 one, 203 one, 205 one, 202 one',
  'include-twice-auth': '201 one',
  'line-escape-bad': '',
  'line-escape-latin1': '',
  'name-latin1': '',
  'template-late-change': '201 one',
  'template-later': '',
  'template-mark-space': '202 one',
  'template-missing': '201 one',
  'template-space': '',
  'twice-auth': '202 one',
  'twice-bad': '',
  'wizard-broken': '202 two',
  'wizard-pjsip-broken': '202 two',
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
  const { accounts } = await readAccounts(sections, {
    role: 'user',
    trunkContexts: [],
    rules: [],
    numberFrom: 'username',
  })
  const users = [...accounts.values()].map(({ name, secrets }) => {
    const fitting = PASSWORDS.filter(([password]) =>
      secrets.some(([, secret]) => provesPassword(name, secret, password)),
    )
    return [name, ...fitting.map(([password]) => password)].join(' ')
  })
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
    if ('unusable' in found || isEmptySecret(found.secret)) continue
    const { username, secret } = found
    seen.auths[name] = username
    seen.logins[name] = PASSWORDS.flatMap(([password]) =>
      provesPassword(username, secret, password) ? [password] : [],
    )
  }
  seen.contacts.sort()
  return { problems, seen, users: users.join(', ') }
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
    const { problems, seen, users } = await read(folder)
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
    const goesOn = GO_ON[name]
    if (goesOn !== undefined) {
      t.same([users, problems], [goesOn, []], name)
    } else if (reason !== undefined) t.notSame(ours, expected, `${name}: ${reason}`)
    else if (isRefused) t.ok(ours.isRefused, name)
    else t.same(ours, expected, name)
  }
})
