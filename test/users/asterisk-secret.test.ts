// What proves a password: each kind of auth section, and what it takes for one.
import { createHash } from 'node:crypto'
import t from 'tap'
import type { Section } from '../../src/users/asterisk-config.ts'
import {
  createPasswordProof,
  credentialOf,
  isEmptySecret,
  readDefaultRealm,
  readSecret,
} from '../../src/users/asterisk-secret.ts'

const section = (values: Record<string, string>): Section => ({
  name: 'a',
  template: false,
  place: 'pjsip.conf:1',
  variables: Object.entries(values).map(([name, value]) => ({ name, value })),
})
const hex = (algorithm: string, text: string): string =>
  createHash(algorithm).update(text).digest('hex')
const md5 = hex('md5', '201:asterisk:right')

const proofs: [string, Record<string, string>, 'right' | 'empty'][] = [
  ['a password', { password: 'right' }, 'right'],
  ['a hash', { auth_type: 'md5', md5_cred: md5 }, 'right'],
  ['a hash in capitals', { auth_type: 'MD5', md5_cred: md5.toUpperCase() }, 'right'],
  ['nothing', {}, 'empty'],
  ['an empty hash', { auth_type: 'md5', md5_cred: '' }, 'empty'],
]
const provesPassword = createPasswordProof()

for (const [name, values, expected] of proofs) {
  void t.test(`${name} proves what it should and nothing else`, async (t) => {
    const read = readSecret(section(values), 'asterisk')
    if ('unusable' in read) throw new Error(read.unusable)
    t.equal(isEmptySecret(read.secret), expected === 'empty')
    t.equal(provesPassword('201', read.secret, 'right'), expected === 'right')
    for (const wrong of ['', 'Right', 'right ', 'righ', md5]) {
      if (expected === 'right') t.notOk(provesPassword('201', read.secret, wrong), wrong)
    }
    t.match(credentialOf('201', read.secret), /^[0-9a-f]{8}$/)
    t.not(credentialOf('201', read.secret), credentialOf('202', read.secret))
  })
}

void t.test('what proves none is told, and not quoted', async (t) => {
  for (const [values, told] of [
    [{ auth_type: 'md5', md5_cred: 'hunter2' }, /^pjsip\.conf:1: \[a\] has an md5_cred/],
    [{ auth_type: 'google_oauth', password: 'hunter2' }, /^pjsip\.conf:1: \[a\] has an auth_type/],
  ] as const) {
    const read = readSecret(section(values), 'asterisk')
    t.match(read, { unusable: told })
    t.notMatch(JSON.stringify(read), /hunter/)
  }
})

void t.test('the realm of whatever sets none', async (t) => {
  t.equal(readDefaultRealm([]), 'asterisk')
  t.equal(readDefaultRealm([section({ type: 'global' })]), 'asterisk')
  t.equal(readDefaultRealm([section({ type: 'global', default_realm: 'pbx' })]), 'pbx')
})
