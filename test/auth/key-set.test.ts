// The key file's text, changed: what signs next, what is kept, and what is never taken away.

import t from 'tap'
import { addKey, type KeyEdit, listKeys, removeKey, retireKey } from '../../src/auth/key-set.ts'
import { ALGORITHMS, parseKeyring } from '../../src/auth/keyring.ts'
import { NOW } from '../fixtures/clock.ts'
import { jwk, keySet } from '../fixtures/keys.ts'

const LIFE = 3600

const textOf = (edit: KeyEdit): string => {
  if ('refused' in edit) throw new Error(edit.refused)
  return edit.text
}

const statesOf = (text: string): string[] =>
  listKeys(text, LIFE).map(({ kid, state }) => `${kid} ${state}`)

const signingOf = async (text: string): Promise<string> => {
  const keyring = await parseKeyring(text)
  return 'problems' in keyring ? keyring.problems.join() : keyring.signing.kid
}

void t.test(
  'a new key signs at once, or stands by until the one before it is retired',
  async (t) => {
    const before = keySet(jwk('a'))
    for (const alg of ALGORITHMS) {
      const added = addKey(before, alg, false, NOW)
      if ('refused' in added) throw new Error(added.refused)
      t.equal(await signingOf(added.text), added.kid, alg)
      t.same(statesOf(added.text), [`${added.kid} signing`, 'a standby'])
      const standing = addKey(before, alg, true, NOW)
      if ('refused' in standing) throw new Error(standing.refused)
      t.equal(await signingOf(standing.text), 'a', `${alg}, standing by`)
      const retired = textOf(retireKey(standing.text, 'a', NOW + 5))
      t.equal(await signingOf(retired), standing.kid, 'it signs once the one before is retired')
      t.match(listKeys(retired, LIFE), [
        { kid: 'a', state: 'retired', retired: NOW + 5, gone: NOW + 5 + LIFE, created: undefined },
        { kid: standing.kid, state: 'signing', created: NOW, alg, gone: undefined },
      ])
    }
  },
)

void t.test('nothing is done to a key that is not there, nor to the last that signs', async (t) => {
  const one = keySet(jwk('a'), jwk('old', { retired: NOW }))
  const remove = { force: true, life: LIFE, now: NOW }
  t.same(retireKey(one, 'b', NOW), { refused: 'unknown_key' })
  t.same(removeKey(one, 'b', remove), { refused: 'unknown_key' })
  t.same(retireKey(one, 'a', NOW), { refused: 'last_key' })
  t.same(removeKey(one, 'a', remove), { refused: 'last_key' })
  t.same(retireKey(one, 'old', NOW), { refused: 'retired_already' })
})

void t.test('a key goes when its last token is gone, or when it is said to', async (t) => {
  const text = keySet(jwk('a'), jwk('b'), jwk('old', { retired: NOW }))
  const remove = (kid: string, now: number, force = false) =>
    removeKey(text, kid, { force, life: LIFE, now })
  t.same(remove('old', NOW + LIFE - 1), { refused: 'alive', gone: NOW + LIFE })
  t.same(statesOf(textOf(remove('old', NOW + LIFE))), ['a signing', 'b standby'])
  t.same(remove('a', NOW), { refused: 'alive', gone: undefined })
  t.same(remove('b', NOW), { refused: 'alive', gone: undefined })
  t.same(statesOf(textOf(remove('a', NOW, true))), ['b signing', 'old retired'])
})

void t.test('what somebody else wrote into a key stays', async (t) => {
  const text = textOf(retireKey(keySet(jwk('a', { note: 'from host 2' }), jwk('b')), 'a', NOW))
  t.match(JSON.parse(text), { keys: [{ kid: 'a', note: 'from host 2', retired: NOW }, jwk('b')] })
})
