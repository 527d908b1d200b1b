import t from 'tap'
import {
  createMachineKey,
  createMachineKeyId,
  hashMachineKey,
  isMachineKey,
  isMachineKeyName,
  isMachineUser,
  isWhole,
  machineKeyOf,
  machineUser,
  parseMachineGrants,
} from '../../src/auth/machine-key.ts'
import { NOBODY } from '../../src/auth/pattern.ts'

void t.test('a key is found by scanners, and no two are alike', (t) => {
  const keys = Array.from({ length: 200 }, createMachineKey)
  t.equal(new Set(keys).size, keys.length)
  for (const key of keys) {
    t.match(key, /^pstrn_[0-9A-Za-z]{49}$/)
    t.match(`KEY="${key}"`, /\bpstrn_[0-9A-Za-z]{49}\b/)
    t.ok(isMachineKey(key) && isWhole(key))
  }
  const heads = new Set(keys.map((key) => key.slice(6, 8)))
  t.ok(heads.size > 50, 'its first digits are as random as the others')
  t.end()
})

void t.test('a slip is told from a guess', (t) => {
  const key = createMachineKey()
  for (let at = 6; at < key.length; at++) {
    const other = key[at] === 'a' ? 'b' : 'a'
    t.notOk(isWhole(key.slice(0, at) + other + key.slice(at + 1)), `digit ${at}`)
  }
  const swapped = key.replace(/(.)(?!\1)(.)(?=.{6}$)/, '$2$1')
  t.notOk(swapped !== key && isWhole(swapped), 'two digits in each other’s place')
  for (const cut of [key.slice(0, -1), `${key}a`, key.slice(1), `${key} `, 'pstrn_', '']) {
    t.notOk(isWhole(cut), cut)
    if (cut.length !== key.length) t.equal(hashMachineKey(cut), undefined)
  }
  t.equal(hashMachineKey(key)?.length, 43)
  t.end()
})

void t.test('what hangs on a key bears its id', (t) => {
  const id = createMachineKeyId()
  t.equal(machineKeyOf(id), id)
  t.equal(machineKeyOf(`${id}-0123`), id)
  for (const sid of [
    'key_',
    `${id}0`,
    'key_0123456789ABCDEF',
    '0123456789abcdef0123456789abcdef',
    '',
  ]) {
    t.equal(machineKeyOf(sid), undefined, sid)
  }
  t.equal(machineUser('crm'), 'key:crm')
  t.ok(isMachineUser('key:crm') && !isMachineUser('crm') && !isMachineUser('Key:crm'))
  for (const name of ['a', '0', 'wall-board.2_x', 'a'.repeat(40)])
    t.ok(isMachineKeyName(name), name)
  for (const name of ['', 'A', '-a', 'a b', 'a:b', 'key/x', 'ä', 'a'.repeat(41), 'a\n']) {
    t.notOk(isMachineKeyName(name), JSON.stringify(name))
  }
  t.end()
})

void t.test('its grants are a role’s, without a user', (t) => {
  const read = parseMachineGrants(['read:recordings/**', 'ticket:2*', 'subscribe:users-state'])
  if ('problem' in read) throw new Error(read.problem)
  t.same(
    read.grants.map(({ text }) => text),
    ['read:recordings/**', 'subscribe:users-state'],
  )
  const [users] = read.users
  t.ok(users?.matches('201', NOBODY) && !users.matches('101', NOBODY))
  t.same(parseMachineGrants([]), { grants: [], users: [] })
  for (const [text, why] of [
    ['read:recordings/{username}/**', 'has a brace'],
    ['read:recordings/{own_calls}', 'has a brace'],
    ['ticket:{username}', 'has a brace'],
    ['subscribe:me/calls', 'a machine has none'],
    ['subscribe:me', 'a machine has none'],
    ['ticket:', 'names no action'],
    ['fly:x', 'names no action'],
    ['ticket:a//b', 'empty segment'],
    ['x', 'is not of the form'],
  ] as const) {
    const { problem = '' } = parseMachineGrants(['read:a', text]) as { problem?: string }
    t.ok(problem.startsWith(text) && problem.includes(why), `${text}: ${problem}`)
  }
  t.end()
})
