// What is told of a configuration that is good.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Action, createPolicy, findGrant } from '../../src/auth/grants.ts'
import { readConfig } from '../../src/config/load.ts'
import { findWarnings } from '../../src/config/warnings.ts'

const rolesOf = (grants: readonly string[]) => ({
  roles: new Map([['boss', grants]]),
  calls: { sources: [] },
})

void t.test('a role that reads the API and writes nothing', async (t) => {
  for (const grants of [
    ['read:**'],
    ['read:*/**'],
    ['read:*'],
    ['subscribe:x', 'read:api/**'],
    ['read:api/v3/extensions/*', 'publish:**'],
    // As 0.1.0 and 0.2.0 wrote it down for admin.
    ['read:**', 'subscribe:**', 'connect:**', 'publish:**'],
  ]) {
    t.match(
      findWarnings(rolesOf(grants)),
      [{ path: ['roles', 'boss', 'grants'], text: /^roles\.boss\.grants: .*add "write:api/ }],
      grants.join(),
    )
  }
})

void t.test('a pattern that covered private channels of users', async (t) => {
  for (const [grant, cure] of [
    ['subscribe:users-state-*', 'subscribe:users-state-user-*'],
    ['publish:active-calls-*', 'publish:active-calls-user-*'],
  ] as const) {
    const [found] = findWarnings(rolesOf(['read:a', grant]))
    t.equal(
      found?.text,
      `roles.boss.grants: ${grant} covers no user's private channel: add "${cure}" where it should`,
    )
    const [action = '', pattern = ''] = cure.split(':')
    const granted = createPolicy(new Map([['boss', [cure]]])).get('boss') ?? []
    const who = { username: '201', id: '1', role: 'boss' }
    t.ok(findGrant(granted, action as Action, pattern.replace('*', '7'), who), 'the cure works')
  }
})

void t.test('a source of calls that changes nothing, and a grant that does not', async (t) => {
  const calls = { sources: ['names'] as const }
  const own = 'read:recordings/{own_calls}'
  const told = (grants: readonly string[]): string[] =>
    findWarnings({ ...rolesOf(grants), calls }).map(({ text }) => text)
  t.match(told(['read:recordings/**']), [
    /^calls\.sources: changes nothing, since no role hears its own calls alone: write "read:recordings\/\{own_calls\}" in place/,
  ])
  t.same(told([own]), [])
  t.same(told([own, 'read:recordings/2026/**', 'write:**']), [])
  for (const wider of ['read:**', 'read:recordings/**']) {
    t.same(told([own, wider, 'write:**']), [
      `roles.boss.grants: ${own} changes nothing beside ${wider}: remove one of them`,
    ])
  }
})

void t.test('no other role', async (t) => {
  for (const grants of [
    [],
    ['read:recordings/**'],
    ['read:apiary/**'],
    ['subscribe:**'],
    ['subscribe:users-state-user-*'],
    ['read:**', 'write:api/v3/x'],
    ['read:**', 'write:**'],
  ]) {
    t.same(findWarnings(rolesOf(grants)), [], grants.join())
  }
})

void t.test('what is shipped is meant', async (t) => {
  const text = readFileSync(join(import.meta.dirname, '../../postern.example.toml'), 'utf8')
  const shipped = readConfig(text, 'example')
  t.ok(shipped.config.roles.size > 1)
  t.same(shipped.warnings, [])
})
