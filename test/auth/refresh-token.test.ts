// What the store sees of a refresh token: nothing that opens anything.

import * as fc from 'fast-check'
import t from 'tap'
import {
  createOpaqueToken,
  hashRefreshToken,
  namesOf,
  sealSuccessor,
  unsealSuccessor,
} from '../../src/auth/refresh-token.ts'

void t.test('an opaque token is 64 lower-case hex digits, another one each time', async (t) => {
  const tokens = Array.from({ length: 1000 }, createOpaqueToken)
  t.equal(new Set(tokens).size, 1000)
  for (const token of tokens) if (!/^[0-9a-f]{64}$/.test(token)) t.fail(token)
})

void t.test('what was traded for another has a half in common with it, and no more', async (t) => {
  const first = createOpaqueToken()
  const next = Array.from({ length: 1000 }, () => createOpaqueToken(first))
  t.equal(new Set(next).size, 1000)
  for (const token of next) {
    if (!/^[0-9a-f]{64}$/.test(token) || !token.startsWith(first.slice(0, 32))) t.fail(token)
  }
  t.equal(new Set(next.map((token) => token.slice(32))).size, 1000)
  const familyOf = (token: string, sid?: string) => namesOf(token, sid)[1]?.toString('hex')
  t.equal(new Set([first, ...next].map((token) => familyOf(token))).size, 1)
  t.not(familyOf(first), familyOf(createOpaqueToken()))
  t.equal(familyOf('a.b.c'), undefined, 'a JWT that nobody has verified is of none')
  t.not(familyOf('a.b.c', first.slice(0, 32)), familyOf(first), 'a session’s name is no secret')
  const names = namesOf(first).map((name) => name?.toString('hex'))
  t.notOk(names.includes(hashRefreshToken(first.slice(0, 32)).toString('hex')))
})

void t.test('the hash finds a token and does not hold it', async (t) => {
  const token = createOpaqueToken()
  t.same(hashRefreshToken(token), hashRefreshToken(token))
  t.equal(hashRefreshToken(token).length, 32)
  t.notSame(hashRefreshToken(token), hashRefreshToken(token.toUpperCase()))
  t.notOk(hashRefreshToken(token).equals(Buffer.from(token, 'hex')))
})

void t.test('who holds the predecessor opens the successor', async (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string(), (presented, successor) => {
      return unsealSuccessor(presented, sealSuccessor(presented, successor)) === successor
    }),
    { numRuns: 100 },
  )
  const sealed = sealSuccessor('predecessor', 'successor')
  t.equal(unsealSuccessor('predecessor', new Uint8Array(sealed)), 'successor', 'bytes of any kind')
  t.notSame(sealed, sealSuccessor('predecessor', 'successor'), 'a nonce is used once')
})

void t.test('nobody else does', async (t) => {
  const sealed = sealSuccessor('predecessor', 'successor')
  t.notOk(sealed.includes('successor'))
  t.throws(() => unsealSuccessor('somebody else', sealed))
  t.throws(() => unsealSuccessor(hashRefreshToken('predecessor').toString('hex'), sealed))
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed)
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
    t.throws(() => unsealSuccessor('predecessor', changed), `byte ${at} changed`)
  }
  for (const length of [0, 11, 12, 27, 28, sealed.length - 1]) {
    t.throws(() => unsealSuccessor('predecessor', sealed.subarray(0, length)), `${length} bytes`)
  }
})
