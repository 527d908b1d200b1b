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
    text: JSON.stringify([row]),
    away: false,
    full: false,
    readings: 0,
    writings: 0,
    /** What another host does between a reading and the writing that follows it. */
    meanwhile: undefined as (() => void) | undefined,
    get rows(): MachineKey[] {
      return JSON.parse(store.text) as MachineKey[]
    },
    set rows(rows: readonly MachineKey[]) {
      store.text = JSON.stringify(rows)
    },
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
      machineKeys: () =>
        asked(() => {
          store.readings++
          return store.text
        }),
      replaceMachineKeys: (known, next) =>
        asked(() => {
          if (store.full) throw new Error('full')
          store.meanwhile?.()
          store.meanwhile = undefined
          if (store.text !== known) return false
          store.writings++
          store.text = next
          return true
        }),
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
  const removing = keys.remove(ID, () => undefined)
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

void t.test('a removal that a reading under way writes down is counted', async (t) => {
  const { keys, store } = setUp(t)
  await keys.read()
  const told: string[] = []
  const reading = keys.read()
  t.equal(await keys.remove('board', ({ id }) => void told.push(id)), 1)
  await reading
  t.same(told, [ID])
  t.equal(await keys.remove('board', ({ id }) => void told.push(id)), 0)
  t.match(store.rows, [{ removedAt: NOW }])
})

void t.test('what was let in by an heir that came with a reading under way ends too', async (t) => {
  const { keys, store, row, ended } = setUp(t)
  await keys.read()
  const heir = { ...row, id: 'key_00000000000000ff', hash: 'theirs' }
  store.rows = [row, heir]
  const reading = keys.read()
  const removing = keys.remove('board', () => undefined)
  await reading
  t.ok(keys.stands(heir.id), 'what it lets in now hangs on it')
  t.equal(await removing, 2)
  t.same(ended, [ID, heir.id])
})

void t.test('what is owed is tried once more at the end', async (t) => {
  const { keys, store, ended } = setUp(t)
  await keys.read()
  store.away = true
  await keys.remove(ID, () => undefined).catch(() => undefined)
  store.away = false
  await keys.close()
  t.match(store.rows, [{ removedAt: NOW }])
  t.same(ended, [ID])
})

void t.test('a store that forgot a removal is told again', async (t) => {
  const { keys, store, row, shown, elapse } = setUp(t, { isShared: true })
  await keys.read()
  await keys.remove(ID, () => undefined)
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
  const { keys, store, clock, shown, elapse } = setUp(t, { isShared: true })
  await keys.read()
  for (let n = 0; n < 50; n++) shown()
  t.same([...keys.uses()], [['board', 50]])
  t.equal(store.writings, 0)
  await elapse()
  t.match(store.rows, [{ usedAt: NOW, usedFrom: HERE }])
  for (let second = 0; second < 59; second++) {
    clock.advance(1)
    shown()
    await elapse()
  }
  t.equal(store.writings, 1)
  t.match(await keys.list(), [{ usedAt: NOW + 59 }], 'whoever asks sees the last')
  t.match(store.rows, [{ usedAt: NOW }])
  shown()
  clock.advance(60)
  store.away = true
  await elapse()
  store.away = false
  await elapse()
  t.match(store.rows, [{ usedAt: NOW + 59 }])
  clock.jump(-3600)
  clock.advance(60)
  shown()
  await keys.close()
  t.match(store.rows, [{ usedAt: NOW + 179 - 3600 }], 'also at the end')
})

void t.test('the last use is the latest of all hosts', async (t) => {
  const { keys, store, row, clock, shown, elapse } = setUp(t, { isShared: true })
  await keys.read()
  shown()
  clock.advance(50)
  const theirs = { ...row, usedAt: NOW + 40, usedFrom: 'there' }
  store.rows = [theirs]
  t.match(await keys.list(), [theirs])
  await elapse()
  t.match(store.rows, [theirs])
  t.equal(store.writings, 0)
  shown()
  t.match(await keys.list(), [{ usedAt: NOW + 50, usedFrom: HERE }])
  clock.advance(60)
  await elapse()
  t.match(store.rows, [{ usedAt: NOW + 50, usedFrom: HERE }])
  store.rows = [{ ...row, usedAt: NOW + 9999, usedFrom: 'a clock that was ahead' }]
  shown()
  t.match(await keys.list(), [{ usedAt: NOW + 110, usedFrom: HERE }], 'what is to come is no use')
})

void t.test('a reading that finds nothing new goes through no texts', async (t) => {
  const { keys, store, row, clock, elapse } = setUp(t, { isShared: true })
  await keys.read()
  const texts = t.capture(JSON, 'stringify', JSON.stringify)
  clock.advance(1)
  await elapse()
  t.equal(keys.age(), 0)
  t.equal(texts().length, 0)
  store.rows = [row, { ...row, id: 'key_00000000000000ff', hash: 'other' }]
  await elapse()
  await keys.forget(0)
  t.equal((await keys.list()).length, 2)
  await keys.remove(ID, () => undefined)
  t.match(store.rows, [{ removedAt: NOW + 1 }, { removedAt: 0 }])
})

void t.test('where nothing can be written they can be read', async (t) => {
  const { keys, store, row, clock, shown, ended, elapse } = setUp(t, { isShared: true })
  const other = { ...row, id: 'key_00000000000000ff', name: 'other', hash: 'other' }
  store.rows = [row, other]
  await keys.read()
  store.full = true
  shown()
  t.match(await keys.list(), [{ id: ID, usedAt: NOW, usedFrom: HERE }, { usedAt: 0 }])
  clock.advance(60)
  await elapse()
  t.equal(keys.age(), 0)
  await t.rejects(
    keys.remove('board', () => undefined),
    { message: 'full' },
  )
  t.equal(shown(), 'session_ended')
  t.match(await keys.list(), [{ id: other.id }])
  store.rows = [row, { ...other, removedAt: NOW }]
  clock.advance(60)
  await elapse()
  t.equal(keys.age(), 0, 'also with a removal that is owed')
  t.same(ended, [ID, other.id], 'what another host has removed is dead here')
  t.same(await keys.list(), [])
  store.full = false
  await elapse()
  t.match(store.rows, [{ removedAt: NOW + 120, usedAt: NOW }, { removedAt: NOW }])
  await keys.close()
  t.match(store.rows, [{ usedAt: NOW, usedFrom: HERE }, {}], 'no use was lost')
})

void t.test('where another host was faster it is done anew', async (t) => {
  const { keys, store, row, clock, shown, ended } = setUp(t, { isShared: true })
  const theirs = machineKeyOf('key_00000000000000ff', { name: 'board', hash: 'theirs' })
  await keys.read()
  store.meanwhile = () => {
    store.rows = [{ ...row, removedAt: NOW }]
  }
  const heir = { name: 'board', hash: 'x' }
  t.equal(await keys.rotate(heir), undefined, 'removed meanwhile: it has no heir')
  t.equal(shown(), 'session_ended')
  store.meanwhile = () => {
    store.rows = [...store.rows, theirs]
  }
  const asked = { ...heir, grants: ['read:x'], from: [] }
  t.equal(await keys.add(asked), undefined, 'the name is taken by now')
  const told: string[] = []
  store.meanwhile = () => {
    store.rows = [...store.rows, { ...theirs, id: 'key_00000000000000fe', hash: 'their other' }]
  }
  t.equal(await keys.remove('board', ({ id }) => void told.push(id)), 2, 'its heir too')
  t.same(told, [theirs.id, 'key_00000000000000fe'])
  t.equal(await keys.remove('board', ({ id }) => void told.push(id)), 0)
  t.same(await keys.list(), [])
  t.same(new Set(ended), new Set([ID, ...told]))
  t.match(await keys.add(asked), /^key_/)
  clock.advance(1)
  t.match(await keys.rotate(heir, NOW + 60), { id: /^key_/, old: /^key_/ })
  t.same(
    (await keys.list()).map(({ createdAt, until }) => [createdAt - NOW, until - NOW < 100]),
    [
      [0, true],
      [1, false],
    ],
  )
})

void t.test('what ended long before is forgotten', async (t) => {
  const { keys, store, row } = setUp(t)
  const of = (id: string, given: Partial<MachineKey>) => ({ ...row, id, hash: id, ...given })
  store.rows = [
    row,
    of('key_00000000000000f0', { removedAt: NOW }),
    of('key_00000000000000f1', { until: NOW + 1 }),
  ]
  const left = async (past: number) => {
    await keys.forget(past)
    return store.rows.map(({ id }) => id.slice(-2))
  }
  const MONTH = 30 * 86_400
  t.same(await left(0), ['ef', 'f0', 'f1'])
  t.same(await left(NOW + MONTH - 1), ['ef', 'f0', 'f1'])
  t.same(await left(NOW + MONTH), ['ef', 'f1'])
  t.same(await left(NOW + MONTH + 1), ['ef'])
})

void t.test('an operator removes what is known here, though the store be away', async (t) => {
  const { keys, store, shown } = setUp(t)
  await keys.read()
  const told: string[] = []
  const { remove } = createMachineKeyOperations({
    machineKeys: keys,
    registry: { list: () => [] },
    peers: { machineKeysChanged: async () => undefined },
    observer: { ordered: ({ name }) => void told.push(name) },
  })
  store.away = true
  await t.rejects(remove({ which: 'board' }), { message: 'away' })
  t.equal(shown(), 'session_ended')
  t.same(told, ['MACHINE_KEY_REMOVED'])
  await t.rejects(remove({ which: 'other' }), { message: 'away' }, 'it may well be there')
  store.away = false
  t.same(await remove({ which: 'other' }), { removed: 0 })
  t.match(store.rows, [{ removedAt: NOW }])
  t.same(told, ['MACHINE_KEY_REMOVED'], 'once')
})
