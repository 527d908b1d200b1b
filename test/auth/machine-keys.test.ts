// Machine keys in memory: what counts while the store changes, is away, or has forgotten.

import t, { type Test } from 'tap'

import { createMachineKey, hashMachineKey } from '../../src/auth/machine-key.ts'
import { createMachineKeys } from '../../src/auth/machine-keys.ts'
import { createNetworks } from '../../src/config/networks.ts'
import { createMachineKeyOperations } from '../../src/daemon/machine-key-operations.ts'
import type { MachineKey } from '../../src/store/machine-key.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { machineKeyOf } from '../store/sessions.ts'

const ID = 'key_0123456789abcdef'
const HERE = '192.0.2.1'

const setUp = (t: Test, more: { isShared?: boolean; given?: Partial<MachineKey> } = {}) => {
  const { isShared = false, given = {} } = more
  const text = createMachineKey()
  const row = machineKeyOf(ID, {
    hash: String(hashMachineKey(text)),
    grants: ['subscribe:users-state'],
    from: [],
    ...given,
  })
  const store = {
    rows: [row] as readonly MachineKey[],
    away: false,
    used: [] as string[],
    readings: 0,
  }
  const asked = async <Answer>(answer: () => Answer): Promise<Answer> => {
    if (store.away) throw new Error('away')
    return answer()
  }
  const ended: string[] = []
  const clock = createTestClock()
  let tick = (): void => undefined
  const keys = createMachineKeys({
    store: {
      listMachineKeys: () =>
        asked(() => {
          store.readings++
          return store.rows
        }),
      addMachineKey: (key) =>
        asked(() => {
          store.rows = [...store.rows, key]
          return true
        }),
      removeMachineKeys: (ids, now) =>
        asked(() => {
          store.rows = store.rows.map((one) =>
            ids.includes(one.id) ? { ...one, removedAt: now } : one,
          )
        }),
      useMachineKey: (id, now, address) =>
        asked(() => void store.used.push(`${id} ${now - NOW} ${address}`)),
    },
    createNetworks,
    isShared,
    clock: {
      ...clock,
      every(_, job) {
        tick = job
        return () => undefined
      },
    },
    onEnd: async (ids) => void ended.push(...ids),
  })
  t.teardown(() => keys.close())
  const shown = (): string => {
    const found = keys.identify(text, HERE)
    return 'refused' in found ? found.refused : found.claims.username
  }
  const elapse = async (): Promise<void> => {
    tick()
    await keys.read().catch(() => undefined)
  }
  return { keys, store, row, text, ended, clock, shown, elapse, tick: () => tick() }
}

void t.test('what is known counts, from when it was read', async (t) => {
  const { keys, shown, clock } = setUp(t)
  t.equal(shown(), 'unknown_machine_key')
  t.equal(keys.age(), Infinity)
  await keys.read()
  t.equal(shown(), 'key:board')
  clock.advance(5)
  t.equal(keys.age(), 5)
  t.ok(keys.stands(ID) && !keys.stands('key_0000000000000000'))
  t.ok(keys.grants(ID, 'subscribe', 'users-state'))
  for (const [id, action, resource] of [
    [ID, 'subscribe', 'contacts'],
    [ID, 'read', 'users-state'],
    [ID, 'fly', 'users-state'],
    ['key_0000000000000000', 'subscribe', 'users-state'],
  ] as const) {
    t.notOk(keys.grants(id, action, resource), `${id} ${action} ${resource}`)
  }
  t.equal(keys.identify('pstrn_x', HERE), keys.identify('', HERE), 'malformed, both')
})

void t.test(
  'grants of a newer version are none, and so are networks that nobody can read',
  async (t) => {
    const newer = setUp(t, { given: { grants: ['subscribe:users-state', 'dance:x'] } })
    await newer.keys.read()
    t.equal(newer.shown(), 'key:board')
    t.notOk(newer.keys.grants(ID, 'subscribe', 'users-state'))
    const nowhere = setUp(t, { given: { from: ['the office'] } })
    await nowhere.keys.read()
    t.equal(nowhere.shown(), 'wrong_network')
    t.equal(nowhere.keys.nameOf(nowhere.text), 'key:board')
    t.equal(nowhere.keys.nameOf('pstrn_x'), undefined)
    t.equal(nowhere.keys.nameOf(createMachineKey()), undefined)
  },
)

void t.test('a removal counts at once, and is written once the store can', async (t) => {
  const { keys, store, ended, shown, elapse } = setUp(t)
  await keys.read()
  store.away = true
  const removing = keys.remove([ID])
  t.equal(shown(), 'session_ended', 'before anybody answers')
  t.same(ended, [ID])
  await t.rejects(removing, { message: 'away' })
  t.notOk(keys.stands(ID))
  await elapse()
  t.equal(shown(), 'session_ended')
  store.away = false
  await elapse()
  t.match(store.rows, [{ removedAt: NOW }])
  t.equal(shown(), 'session_ended')
  t.same(await keys.list(), [])
  const { readings } = store
  await elapse()
  t.equal(store.readings, readings + 1, 'nothing is owed: it reads when it is asked alone')
})

void t.test('what is owed is tried once more at the end', async (t) => {
  const { keys, store, ended } = setUp(t)
  await keys.read()
  store.away = true
  await keys.remove([ID]).catch(() => undefined)
  store.away = false
  await keys.close()
  t.match(store.rows, [{ removedAt: NOW }])
  t.same(ended, [ID])
})

void t.test('a store that forgot a removal is told again', async (t) => {
  const { keys, store, row, shown, elapse } = setUp(t, { isShared: true })
  await keys.read()
  await keys.remove([ID])
  store.rows = [row]
  await elapse()
  t.equal(shown(), 'session_ended')
  await elapse()
  t.match(store.rows, [{ removedAt: NOW }])
})

void t.test('what another host did is read each second, one reading at a time', async (t) => {
  const { keys, store, row, ended, shown, elapse, tick } = setUp(t, { isShared: true })
  await keys.read()
  store.rows = [{ ...row, usedAt: NOW + 9, usedFrom: 'x' }]
  await elapse()
  t.same(ended, [], 'a use ends nothing')
  t.match(await keys.list(), [{ usedFrom: 'x' }])
  const { readings } = store
  tick()
  tick()
  tick()
  await keys.read()
  t.equal(store.readings, readings + 2)
  store.rows = [{ ...row, until: NOW + 60 }]
  await elapse()
  t.same(ended, [ID], 'its end came nearer: what hangs on it comes back with the new one')
  t.equal(shown(), 'key:board')
  store.rows = [{ ...row, until: NOW + 60, removedAt: NOW }]
  await elapse()
  t.same(ended, [ID, ID])
  t.equal(shown(), 'session_ended')
  store.away = true
  tick()
  await keys.read().catch(() => undefined)
  store.away = false
  store.rows = []
  await elapse()
  t.equal(shown(), 'unknown_machine_key')
  t.same(ended, [ID, ID], 'it had ended before')
})

void t.test('one that is gone has ended', async (t) => {
  const { keys, store, ended, elapse } = setUp(t, { isShared: true })
  await keys.read()
  store.rows = []
  await elapse()
  t.same(ended, [ID])
})

void t.test('a use is written once a minute, and never waited for', async (t) => {
  const { keys, store, clock, shown } = setUp(t)
  await keys.read()
  for (let n = 0; n < 50; n++) shown()
  t.same([...keys.uses()], [['board', 50]])
  t.same(store.used, [`${ID} 0 ${HERE}`])
  clock.advance(59)
  shown()
  clock.advance(1)
  store.away = true
  shown()
  clock.advance(60)
  store.away = false
  shown()
  clock.jump(-3600)
  shown()
  shown()
  t.same(store.used.slice(1), [`${ID} 120 ${HERE}`, `${ID} -3480 ${HERE}`])
})

void t.test('an operator removes what is known here, though the store be away', async (t) => {
  const { keys, store, shown } = setUp(t)
  await keys.read()
  const told: string[] = []
  const { removeMachineKeys } = createMachineKeyOperations({
    machineKeys: keys,
    registry: { list: () => [] },
    peers: { machineKeysChanged: async () => undefined },
    observer: { machineKey: (name) => void told.push(name) },
    now: () => NOW,
  })
  store.away = true
  await t.rejects(removeMachineKeys('board'), { message: 'away' })
  t.equal(shown(), 'session_ended')
  t.same(told, ['MACHINE_KEY_REMOVED'])
  await t.rejects(removeMachineKeys('other'), { message: 'away' }, 'it may well be there')
  store.away = false
  t.equal(await removeMachineKeys('other'), 0)
})
