import t from 'tap'

import { observeStore, type StoreObservation } from '../../src/store/observed.ts'
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts'
import { StoreError } from '../../src/store/store.ts'
import { makeVerbs } from '../../src/store/verbs.ts'

void t.test('each verb is timed and answers as the store does', async (t) => {
  const seen: StoreObservation[] = []
  let now = 0
  const inner = await openSqliteStore(`${t.testdir({})}/store.db`)
  const store = observeStore(
    inner,
    () => (now += 0.5),
    (observation) => void seen.push(observation),
  )
  t.equal(await store.identify('201'), 1)
  t.same(seen, [{ verb: 'identify', took: 0.5 }])
  await store.close()
  await t.rejects(store.ping(), StoreError)
  t.match(seen[1], { verb: 'ping', error: 'unavailable' })
})

void t.test('what is no error of the store is a fault', async (t) => {
  const seen: StoreObservation[] = []
  const broken = makeVerbs(() => () => Promise.reject(new TypeError('a bug')))
  const store = observeStore(
    { ...broken, close: () => Promise.resolve() },
    () => 0,
    (observation) => void seen.push(observation),
  )
  await t.rejects(store.ping(), TypeError)
  t.match(seen, [{ verb: 'ping', error: 'fault' }])
})
