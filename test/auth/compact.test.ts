// A compact JWS as text and under a key; token.test.ts and token-vectors.test.ts have the hostile ones.

import t from 'tap'
import { MAX_TOKEN, parseCompact, verifyCompact } from '../../src/auth/compact.ts'
import { importPublic } from '../../src/auth/jwk.ts'
import { keyringOf } from '../fixtures/keys.ts'
import { foreignToken, pairOf } from '../fixtures/pairs.ts'
import { b64, header, KID, seal, token } from '../fixtures/tokens.ts'

void t.test('text that no encoder of ours writes is refused before any cryptography', async (t) => {
  t.match(parseCompact(token()), { header: { alg: 'HS256' }, payload: /^[\w-]+$/ })
  const rows: readonly string[] = [
    '',
    'a.b',
    'a.b.c.d.e',
    'A.AA.AA',
    `${token()}=`,
    ` ${token()}`,
    seal(`${b64('[1]')}.e30`),
    seal(`${b64('{"a":1,"a":2}')}.e30`),
    `e30.e30.${'A'.repeat(MAX_TOKEN)}`,
  ]
  for (const text of rows) t.same(parseCompact(text), { refused: 'malformed_token' }, text)
})

void t.test('only what the key has signed, and only an object, is a payload', async (t) => {
  const { signing } = await keyringOf(KID)
  t.match(await verifyCompact(token(), signing), { payload: { username: '201' } })
  // A member of this name is a claim, and no refusal of ours.
  t.same(await verifyCompact(token({ payload: { refused: 'expired' } }), signing), {
    payload: { refused: 'expired' },
  })
  t.same(await verifyCompact(token({ key: Buffer.alloc(32, 1) }), signing), {
    refused: 'bad_signature',
  })
  t.same(await verifyCompact(token({ payload: '[1]' }), signing), { refused: 'bad_claims' })
  const hs512 = token({ header: header({ alg: 'HS512' }), hash: 'sha512' })
  t.same(await verifyCompact(hs512, signing), { refused: 'bad_signature' })
})

void t.test('a key verifies its own algorithm, whatever the header says', async (t) => {
  for (const alg of ['EdDSA', 'ES256', 'RS256'] as const) {
    const pair = pairOf(alg, 'k')
    const open = await importPublic(pair.open, alg)
    if ('problem' in open) throw new Error(open.problem)
    const key = { kid: 'k', alg, key: open.key }
    t.match(await verifyCompact(foreignToken(pair), key), { payload: { sub: 'f:1234|anna' } }, alg)
    for (const other of ['none', 'HS256', 'PS256', 'ES384', 'RS512']) {
      const text = foreignToken(pair, { header: { alg: other } })
      t.same(await verifyCompact(text, key), { refused: 'bad_signature' }, `${alg} as ${other}`)
    }
  }
})
