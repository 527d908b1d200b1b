// Which combinations are refused.

import t from 'tap'
import type { Address } from '../../src/config/config.ts'
import { readSettings } from '../../src/config/read.ts'
import { rules } from '../../src/config/rules.ts'
import type { Values } from '../../src/config/schema.ts'

const defaults = (): Values => {
  const read = readSettings({})
  if ('problems' in read) throw new Error('the defaults have problems')
  return read.values
}

const broken = (changes: Partial<Values>): readonly string[] => {
  const values = { ...defaults(), ...changes }
  return rules.filter((rule) => rule.isBroken(values)).map((rule) => rule.of.join(' '))
}

const four = (host: string, port = 80): Address => ({ host, port })

void t.test('the defaults break no rule', async (t) => {
  t.same(broken({}), [])
})

void t.test('own calls without anything that tells whose they are', async (t) => {
  const roles = new Map([
    ['boss', ['read:**']],
    ['user', ['read:recordings/{own_calls}']],
  ])
  t.same(broken({ 'roles.*.grants': roles }), ['roles.*.grants calls.sources'])
  t.same(broken({ 'roles.*.grants': roles, 'calls.sources': ['names'] }), [])
  const read = readSettings({ roles: { clerk: { grants: ['read:recordings/{own_calls}'] } } })
  t.match(read, {
    problems: [
      {
        path: ['roles', 'clerk', 'grants'],
        text: /^roles\.clerk\.grants: has \{own_calls\}, and nothing tells whose call .*: name a source in calls\.sources/,
      },
    ],
  })
})

void t.test('a rule of the PBX’s accounts gives a role that there is', async (t) => {
  const rules = (text: string) => ({
    users: { sources: ['asterisk'] },
    asterisk: { file: '/etc/asterisk/pjsip.conf', rules: [text] },
  })
  t.match(readSettings(rules('name 1?? role boss')), {
    problems: [{ path: ['asterisk', 'rules'], text: /roles.NAME/ }],
  })
  for (const good of ['name 1?? role admin', 'name 201 keep', 'context door-* leave out']) {
    t.match(readSettings(rules(good)), { values: {} }, good)
  }
  t.match(readSettings({ asterisk: { rules: ['name * role boss'] } }), { values: {} }, 'not asked')
})

void t.test('two listeners that could not both bind are refused', async (t) => {
  const cases: readonly (readonly [http: Address, operator: Address, collides: boolean])[] = [
    [four('127.0.0.1'), four('127.0.0.1'), true],
    [four('127.0.0.1'), four('127.0.0.1', 81), false],
    [four('127.0.0.1'), four('127.0.0.2'), false],
    [four('127.0.0.1', 0), four('127.0.0.1', 0), false],
    [four('0.0.0.0'), four('127.0.0.1'), true],
    [four('127.0.0.1'), four('0.0.0.0'), true],
    [four('0.0.0.0'), four('::1'), false],
    [four('::1'), four('0.0.0.0'), false],
    [four('::'), four('127.0.0.1'), true],
    [four('::1'), four('::'), true],
    [{ path: '/a' }, { path: '/a' }, true],
    [{ path: '/a' }, { path: '/b' }, false],
    [{ path: '/a' }, four('127.0.0.1'), false],
    [four('127.0.0.1'), { path: '/a' }, false],
  ]
  for (const [http, operator, collides] of cases) {
    t.same(
      broken({ 'listen.http': http, 'listen.operator': operator, 'listen.public': true }),
      collides ? ['listen.operator listen.http'] : [],
      `${JSON.stringify(http)} and ${JSON.stringify(operator)}`,
    )
  }
  t.same(broken({ 'listen.http': { path: '/a' }, 'listen.control': '/a' }), [
    'listen.control listen.http',
  ])
  t.same(broken({ 'listen.operator': { path: '/a' }, 'listen.control': '/a' }), [
    'listen.control listen.operator',
  ])
})

void t.test('a door that others can open has to be asked for', async (t) => {
  t.same(broken({ 'listen.http': four('10.0.0.1') }), ['listen.http listen.public'])
  t.same(broken({ 'listen.operator': four('::') }), ['listen.operator listen.public'])
  t.same(
    broken({
      'listen.http': four('10.0.0.1'),
      'listen.operator': four('::'),
      'listen.public': true,
    }).filter((rule) => rule.includes('public')),
    [],
  )
})

void t.test('a refresh token outlives the access tokens it brings', async (t) => {
  const rule = ['softphone.refresh_ttl softphone.access_ttl']
  t.same(broken({ 'softphone.access_ttl': 100, 'softphone.refresh_ttl': 101 }), [])
  t.same(broken({ 'softphone.access_ttl': 100, 'softphone.refresh_ttl': 100 }), rule)
  t.same(broken({ 'softphone.access_ttl': 100, 'softphone.refresh_ttl': 99 }), rule)
})

void t.test('no issuer is called as machine keys are', async (t) => {
  const issuers = (name: string) => ({ 'issuers.*.issuer': new Map([[name, 'https://idp']]) })
  t.match(broken(issuers('key')), ['issuers.*.issuer tokens.issuer'])
  t.notMatch(broken(issuers('keys')), ['issuers.*.issuer tokens.issuer'])
})
