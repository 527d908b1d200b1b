// Which texts are tokens of ours. The text of a token is all that counts here; time and revocation are judged
// elsewhere.

import { readFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { once } from 'node:events'
import * as fc from 'fast-check'
import t, { type Test } from 'tap'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import type { Reason } from '../../src/auth/decision.ts'
import type { Keyring } from '../../src/auth/keyring.ts'
import { createTokens, judgeTime, type Claims, type Verdict } from '../../src/auth/token.ts'
import { NOW } from '../fixtures/clock.ts'
import { keyringOf, secretOf } from '../fixtures/keys.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import {
  AUDIENCE,
  b64,
  claims,
  claimsText,
  createTestTokens,
  header,
  ISSUER,
  KID,
  mac,
  refreshToken,
  seal,
  token,
  ticket,
  tokenUnder,
  tokenWith,
} from '../fixtures/tokens.ts'

const tokens = await createTestTokens()
const good = token()
const HEAD = b64(header())
const BODY = b64(claims())

const outcomeOf = (verdict: Verdict): Reason | 'good' =>
  'refused' in verdict ? verdict.refused : 'good'

type Row = readonly [what: string, text: string, expected: Reason | 'good']

const judge = async (t: Test, rows: readonly Row[]): Promise<void> => {
  for (const [what, text, expected] of rows) {
    t.equal(outcomeOf(await tokens.verify(text)), expected, what)
    t.equal(outcomeOf(await tokens.verify(text)), expected, `${what}: again, remembered`)
  }
}

/** A value as the name of a row: nothing in it may break a line. */
const show = (value: unknown): string =>
  (JSON.stringify(value) ?? 'undefined').replaceAll(
    /[^ -~]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

const goodClaims = async (text: string): Promise<Claims> => {
  const verdict = await tokens.verify(text)
  if ('refused' in verdict) throw new Error(`refused: ${verdict.refused}`)
  return verdict
}

void t.test('a good token says who holds it', async (t) => {
  t.strictSame(await tokens.verify(good), {
    kid: 'k1',
    type: 'access',
    sub: '7',
    username: '201',
    role: 'user',
    sid: 'session-1',
    jti: 'token-1',
    iat: NOW,
    nbf: NOW,
    exp: NOW + 900,
  })
  t.match(await tokens.verify(refreshToken()), { type: 'refresh', exp: NOW + 30 * 86_400 })
  t.ok(Object.isFrozen(await tokens.verify(good)), 'a remembered verdict is shared')
})

void t.test(
  'what is issued is verified, and holds what clients and the tables expect',
  async (t) => {
    const request = {
      sub: '7',
      username: 'Jürgen',
      role: 'user',
      sid: 'session-1',
      jti: 'token-1',
      iat: NOW,
    }
    const access = await tokens.issue({ ...request, type: 'access', exp: NOW + 900 })
    t.strictSame({ ...decodeProtectedHeader(access) }, { alg: 'HS256', typ: 'at+jwt', kid: KID })
    t.strictSame(
      { ...decodeJwt(access) },
      claims({ username: 'Jürgen', exp: NOW + 900 }),
      'nbf is iat',
    )
    t.match(await tokens.verify(access), { type: 'access', username: 'Jürgen' })

    const refresh = await tokens.issue({ ...request, type: 'refresh', exp: NOW + 86_400 })
    t.match(decodeProtectedHeader(refresh), { typ: 'rt+jwt' })
    t.match(await tokens.verify(refresh), { type: 'refresh', exp: NOW + 86_400 })
  },
)

void t.test('claims for clients never take the place of ours', async (t) => {
  const text = await tokens.issue({
    type: 'access',
    sub: '7',
    username: '201',
    role: 'user',
    sid: 's',
    jti: 'j',
    iat: NOW,
    exp: NOW + 900,
    extra: { userId: '201', language: 'en', sub: '1', username: 'admin', role: 'admin', iss: 'x' },
  })
  t.match(decodeJwt(text), { userId: '201', language: 'en' })
  t.match(await tokens.verify(text), { sub: '7', username: '201', role: 'user' })
})

void t.test('A: structure, algorithm and keys', async (t) => {
  const none = (alg: string) => `${b64({ alg, typ: 'at+jwt' })}.${BODY}.`
  const inside = (segment: string, char: string) =>
    `${segment.slice(0, 9)}${char}${segment.slice(9)}`
  const [, , MAC = ''] = good.split('.')
  const odd: readonly (readonly [name: string, char: string])[] = [
    ['SP', ' '],
    ['TAB', '\t'],
    ['=', '='],
    ['+', '+'],
    ['/', '/'],
    ['%', '%'],
    ['é', 'é'],
    ['LF', '\n'],
    ['NUL', '\0'],
  ]

  await t.test('alg none', (t) =>
    judge(t, [
      ['no signature', none('none'), 'malformed_token'],
      ['upper case', none('NONE'), 'malformed_token'],
      [
        'with our kid and some signature',
        token({ header: header({ alg: 'none' }) }),
        'bad_signature',
      ],
      ['mixed case', tokenUnder({ alg: 'nOnE' }), 'bad_signature'],
      ['without second dot', `${b64({ alg: 'none' })}.${BODY}`, 'malformed_token'],
    ]),
  )

  await t.test('one key, one algorithm', (t) =>
    judge(t, [
      ['HS384', token({ header: header({ alg: 'HS384' }), hash: 'sha384' }), 'bad_signature'],
      ['HS512', token({ header: header({ alg: 'HS512' }), hash: 'sha512' }), 'bad_signature'],
      ['HS384 with a MAC of HS256', tokenUnder({ alg: 'HS384' }), 'bad_signature'],
      ['HS256 with a MAC of HS512', token({ hash: 'sha512' }), 'bad_signature'],
      ['padded', tokenUnder({ alg: 'HS256 ' }), 'bad_signature'],
      ['lower case', tokenUnder({ alg: 'hs256' }), 'bad_signature'],
      ['absent', tokenUnder({ alg: undefined }), 'bad_signature'],
      ['a list', tokenUnder({ alg: ['HS256'] }), 'bad_signature'],
      // Policy: an escape spells the same name, and only who has the key can write it.
      ['escaped', token({ header: `{"alg":"\\u0048S256","typ":"at+jwt","kid":"${KID}"}` }), 'good'],
    ]),
  )

  await t.test('keys and addresses in the header', async (t) => {
    const canary = createServer()
    const seen: Socket[] = []
    canary.on('connection', (socket) => seen.push(socket.on('error', () => {})))
    await once(canary.listen(0, '127.0.0.1'), 'listening')
    t.teardown(() => canary.close())
    const { port } = canary.address() as { port: number }
    const url = `http://127.0.0.1:${port}/jwks`
    const theirs = Buffer.alloc(3)
    await judge(t, [
      [
        'jwk, signed with it',
        token({ header: header({ jwk: { kty: 'oct', k: 'AAAA' } }), key: theirs }),
        'malformed_token',
      ],
      [
        'jwk, no kid',
        token({ header: header({ kid: undefined, jwk: { kty: 'oct', k: 'AAAA' } }), key: theirs }),
        'malformed_token',
      ],
      ['jku', tokenUnder({ jku: url }), 'malformed_token'],
      ['x5u', tokenUnder({ x5u: url }), 'malformed_token'],
      ['x5c', tokenUnder({ x5c: ['AAAA'] }), 'malformed_token'],
      ['x5t', tokenUnder({ x5t: 'AAAA' }), 'malformed_token'],
      ['the address as kid', tokenUnder({ kid: url }), 'unknown_key'],
      ['the address as issuer', tokenWith({ iss: url }), 'wrong_issuer'],
    ])
    // Whoever had connected before us would be seen before us.
    const own = connect(port, '127.0.0.1')
    await once(canary, 'connection')
    own.destroy()
    for (const socket of seen) socket.destroy()
    t.equal(seen.length, 1, 'nobody but this test has connected')
  })

  await t.test('kid', async (t) => {
    const ostype = readFileSync('/proc/sys/kernel/ostype')
    await judge(t, [
      [
        '/dev/null',
        token({ header: header({ kid: '../../../../dev/null' }), key: Buffer.alloc(0) }),
        'unknown_key',
      ],
      [
        'a file of known content',
        token({ header: header({ kid: '/proc/sys/kernel/ostype' }), key: ostype }),
        'unknown_key',
      ],
      ['SQL', tokenUnder({ kid: "k1' OR '1'='1" }), 'unknown_key'],
      ['padded', tokenUnder({ kid: ' k1' }), 'unknown_key'],
      ['a name that every object has', tokenUnder({ kid: '__proto__' }), 'unknown_key'],
      ['another', tokenUnder({ kid: 'constructor' }), 'unknown_key'],
      ['65 characters', tokenUnder({ kid: 'k'.repeat(65) }), 'unknown_key'],
      [
        'unknown, with the empty key',
        token({ header: header({ kid: 'nobody' }), key: Buffer.alloc(0) }),
        'unknown_key',
      ],
      ['known, with the empty key', token({ key: Buffer.alloc(0) }), 'bad_signature'],
      ['unknown, with our key', tokenUnder({ kid: 'nobody' }), 'unknown_key'],
      ['a number', tokenUnder({ kid: 1 }), 'unknown_key'],
      ['a list', tokenUnder({ kid: [KID] }), 'unknown_key'],
      ['an object', tokenUnder({ kid: {} }), 'unknown_key'],
      ['null', tokenUnder({ kid: null }), 'unknown_key'],
      ['empty', tokenUnder({ kid: '' }), 'unknown_key'],
    ])
    // Policy: a kid is required. Trying every key would let one key's holder speak for another.
    const two = await createTestTokens({ keyring: await keyringOf('new', 'old') })
    for (const kid of ['new', 'old']) {
      const text = token({ header: header({ kid: undefined }), key: secretOf(kid) })
      t.equal(outcomeOf(await two.verify(text)), 'unknown_key', `no kid, MACed with ${kid}`)
    }
  })

  await t.test('extensions of the header', async (t) => {
    const raw = '{"sub":"7","exp":9999999999}'
    const b64false = b64(header({ b64: false, crit: ['b64'] }))
    await judge(t, [
      ['crit exp', tokenUnder({ crit: ['exp'] }), 'malformed_token'],
      ['crit foo', tokenUnder({ crit: ['foo'], foo: 1 }), 'malformed_token'],
      ['crit empty', tokenUnder({ crit: [] }), 'malformed_token'],
      ['crit b64 true', tokenUnder({ crit: ['b64'], b64: true }), 'malformed_token'],
      ['b64 false over raw text', seal(`${b64false}.${raw}`), 'malformed_token'],
      ['b64 false over base64url', seal(`${b64false}.${BODY}`), 'malformed_token'],
      ['b64 false without crit', tokenUnder({ b64: false }), 'malformed_token'],
      ['zip', tokenUnder({ zip: 'DEF' }), 'malformed_token'],
      ['any other member', tokenUnder({ cty: 'JWT' }), 'malformed_token'],
      [
        'a member with a name that objects have',
        token({ header: `{"alg":"HS256","typ":"at+jwt","kid":"${KID}","__proto__":{}}` }),
        'malformed_token',
      ],
      [
        'alg twice: none, then ours',
        token({ header: `{"alg":"none","typ":"at+jwt","kid":"${KID}","alg":"HS256"}` }),
        'malformed_token',
      ],
      [
        'kid twice, the second spelled with an escape',
        token({ header: `{"alg":"HS256","typ":"at+jwt","kid":"x","\\u006bid":"${KID}"}` }),
        'malformed_token',
      ],
      ['a header that is a list', token({ header: [header()] }), 'malformed_token'],
      ['a header that is null', token({ header: 'null' }), 'malformed_token'],
      ['a header that is no JSON', token({ header: 'x' }), 'malformed_token'],
      [
        'a header after a byte order mark',
        token({ header: `\ufeff${JSON.stringify(header())}` }),
        'malformed_token',
      ],
      [
        'a header in UTF-16',
        token({ header: Buffer.from(JSON.stringify(header()), 'utf16le') }),
        'malformed_token',
      ],
    ])
  })

  await t.test('another serialization', async (t) => {
    const dir = b64({ alg: 'dir', enc: 'A256GCM', kid: KID })
    const pbes2 = b64({
      alg: 'PBES2-HS256+A128KW',
      enc: 'A128GCM',
      p2c: 2_147_483_647,
      p2s: 'AAAA',
    })
    const bomb = b64({ alg: 'dir', enc: 'A256GCM', zip: 'DEF', kid: KID })
    const general = { payload: BODY, signatures: [{ protected: HEAD, signature: MAC }] }
    const flat = { payload: BODY, protected: HEAD, signature: MAC }
    const elapsed = startStopwatch()
    await judge(t, [
      ['JWE', `${dir}..AAAAAAAAAAAAAAAA.AAAA.AAAAAAAAAAAAAAAAAAAAAA`, 'malformed_token'],
      ['JWE PBES2', `${pbes2}.AAAA.AAAA.AAAA.AAAA`, 'malformed_token'],
      ['JWE with zip', `${bomb}..AAAA.${'A'.repeat(7000)}.AAAA`, 'malformed_token'],
      ['PBES2 in three parts', seal(`${pbes2}.${BODY}`), 'malformed_token'],
      ['general', JSON.stringify(general), 'malformed_token'],
      ['flattened', JSON.stringify(flat), 'malformed_token'],
      ['encoded', encodeURIComponent(JSON.stringify(flat)), 'malformed_token'],
      ['as base64url', b64(general), 'malformed_token'],
    ])
    t.ok(elapsed().ours < 500, 'nothing was derived or inflated')
  })

  await t.test('one text, one spelling', async (t) => {
    for (const [name, char] of odd) {
      await judge(t, [
        [`${name} in the header`, seal(`${inside(HEAD, char)}.${BODY}`), 'malformed_token'],
        [`${name} in the payload`, seal(`${HEAD}.${inside(BODY, char)}`), 'malformed_token'],
        [`${name} in the MAC`, `${HEAD}.${BODY}.${inside(MAC, char)}`, 'malformed_token'],
        [`${name} before`, char + good, 'malformed_token'],
        [`${name} after`, good + char, 'malformed_token'],
      ])
    }
    await judge(t, [
      ['==', `${good}==`, 'malformed_token'],
      ['.', `${good}.`, 'malformed_token'],
      ['.x', `${good}.x`, 'malformed_token'],
      ['CRLF', `${good}\r\n`, 'malformed_token'],
      ['twice', `${good},${good}`, 'malformed_token'],
      ['with its scheme', `Bearer ${good}`, 'malformed_token'],
    ])
    // The last character carries unused bits: 43 characters of a MAC hold 258 bits, 256 count.
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const last = alphabet.indexOf(MAC.charAt(42))
    for (const bits of [1, 2, 3]) {
      const twin = `${HEAD}.${BODY}.${MAC.slice(0, 42)}${alphabet.charAt(last | bits)}`
      t.same(Buffer.from(twin.split('.')[2] ?? '', 'base64url'), Buffer.from(MAC, 'base64url'))
      t.equal(outcomeOf(await tokens.verify(twin)), 'malformed_token', `unused bits ${bits}`)
    }
    for (const left of [0, 1, 2]) {
      const payload =
        JSON.stringify(claims()) + ' '.repeat((3 + left - (b64(claims()).length % 4)) % 3)
      t.equal(
        outcomeOf(await tokens.verify(token({ payload }))),
        'good',
        'every length is canonical',
      )
    }
    const padded = JSON.stringify(claims()).padEnd(300)
    const segment = b64(padded.slice(0, -1))
    const lastOf = alphabet.indexOf(segment.charAt(segment.length - 1))
    const twin = `${segment.slice(0, -1)}${alphabet.charAt(lastOf | 1)}`
    t.equal(outcomeOf(await tokens.verify(seal(`${HEAD}.${twin}`))), 'malformed_token', 're-MACed')
  })

  await t.test('what is left of a signature', async (t) => {
    const other = tokenWith({ jti: 'token-2' })
    for (const cut of [1, 2, 22, 42, 43]) {
      const verdict = await tokens.verify(good.slice(0, -cut))
      t.ok('refused' in verdict, `cut by ${cut}`)
    }
    await judge(t, [
      ['all zero', `${HEAD}.${BODY}.${'A'.repeat(43)}`, 'bad_signature'],
      ['of another token', `${HEAD}.${BODY}.${other.split('.')[2] ?? ''}`, 'bad_signature'],
      ['of another key', token({ key: secretOf('k2') }), 'bad_signature'],
      ['twice as long', `${good}${MAC.slice(0, 41)}`, 'bad_signature'],
      ['null', 'null', 'malformed_token'],
      ['undefined', 'undefined', 'malformed_token'],
      ['an object', '[object Object]', 'malformed_token'],
      ['..', '..', 'malformed_token'],
      ['.', '.', 'malformed_token'],
      ['nothing', '', 'malformed_token'],
      ['a.b.c', 'a.b.c', 'malformed_token'],
      ['three fitting segments', 'aaaa.bbbb.cccc', 'malformed_token'],
    ])
  })

  await t.test('size', async (t) => {
    const long = JSON.stringify({ ...claims(), x: 'x'.repeat(15_000) })
    // Names that are array indices share one bucket where the hash is not seeded (CVE-2026-21717).
    const flood = Object.fromEntries(Array.from({ length: 700 }, (_, i) => [i * 65_536, 0]))
    const rows: readonly Row[] = [
      ['15,900 a', 'a'.repeat(15_900), 'malformed_token'],
      ['14 KB of dots', '.'.repeat(14_336), 'malformed_token'],
      ['8,000 segments', 'a.'.repeat(8000), 'malformed_token'],
      ['4,000 segments', 'a.'.repeat(4000), 'malformed_token'],
      ['a 15 KB payload', token({ payload: long }), 'malformed_token'],
      ['a payload never closed', `${HEAD}.${'e'.repeat(7500)}`, 'malformed_token'],
      [
        '1,900 lists in lists',
        token({ payload: claimsText('x', '['.repeat(1900) + ']'.repeat(1900)) }),
        'good',
      ],
      ['hash flood', token({ payload: { ...flood, ...claims() } }), 'malformed_token'],
    ]
    for (const row of rows) {
      const elapsed = startStopwatch()
      await judge(t, [row])
      t.ok(elapsed().ours < 250, `${row[0]}: at once`)
    }
    const small = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [i * 65_536, 0]))
    await judge(t, [['within the size', token({ payload: { ...small, ...claims() } }), 'good']])
  })
})

void t.test('B: claims', async (t) => {
  const NUMBERS = [
    '"9999999999"',
    '""',
    'true',
    'false',
    'null',
    `[${NOW}]`,
    '{}',
    '1e400',
    '-1e400',
  ]

  await t.test('instants', async (t) => {
    for (const name of ['iat', 'nbf', 'exp']) {
      await judge(t, [[`no ${name}`, tokenWith({ [name]: undefined }), 'bad_claims']])
      for (const value of [...NUMBERS, '-1', '0', '-0', '1e-400', '9007199254740993', '1e30']) {
        const text = token({ payload: claimsText(name, value) })
        await judge(t, [[`${name} ${value}`, text, 'bad_claims']])
      }
      // Policy: whole seconds only. A fraction would let a token outlive itself within its last second.
      const fraction = tokenWith({ [name]: NOW + 800.5 })
      await judge(t, [[`${name} with a fraction`, fraction, 'bad_claims']])
    }
    await judge(t, [
      ['a fraction of nothing', token({ payload: claimsText('exp', `${NOW + 900}.0`) }), 'good'],
      ['with an exponent', token({ payload: claimsText('exp', `${(NOW + 900) / 100}e2`) }), 'good'],
    ])
  })

  await t.test('the life of a token is bounded', (t) =>
    judge(t, [
      ['a day', tokenWith({ exp: NOW + 86_400 }), 'good'],
      ['a day and a second', tokenWith({ exp: NOW + 86_401 }), 'bad_claims'],
      ['milliseconds', tokenWith({ exp: (NOW + 900) * 1000 }), 'bad_claims'],
      ['2^53 - 1', tokenWith({ exp: Number.MAX_SAFE_INTEGER }), 'bad_claims'],
      ['over before it began', tokenWith({ exp: NOW - 900 }), 'good'],
      ['a refresh token of 400 days', refreshToken({ exp: NOW + 400 * 86_400 }), 'good'],
      ['and a second', refreshToken({ exp: NOW + 400 * 86_400 + 1 }), 'bad_claims'],
    ]),
  )

  await t.test('typ', async (t) => {
    await judge(t, [
      ['JWT', tokenUnder({ typ: 'JWT' }), 'wrong_type'],
      ['of a refresh token', tokenUnder({ typ: 'rt+jwt' }), 'wrong_type'],
      ['absent', tokenUnder({ typ: undefined }), 'wrong_type'],
      ['5', tokenUnder({ typ: 5 }), 'wrong_type'],
      ['null', tokenUnder({ typ: null }), 'wrong_type'],
      ['empty', tokenUnder({ typ: '' }), 'wrong_type'],
      ['with a parameter', tokenUnder({ typ: 'at+jwt;x=1' }), 'wrong_type'],
      ['padded', tokenUnder({ typ: ' at+jwt' }), 'wrong_type'],
      ['a name that objects have', tokenUnder({ typ: 'constructor' }), 'wrong_type'],
      ['upper case', tokenUnder({ typ: 'AT+JWT' }), 'good'],
      ['whole media type', tokenUnder({ typ: 'application/at+jwt' }), 'good'],
      ['whole media type, mixed case', tokenUnder({ typ: 'Application/AT+jwt' }), 'good'],
      [
        'a refresh token renamed in its header',
        token({ payload: claims({ type: 'refresh' }) }),
        'wrong_type',
      ],
      [
        'an access token renamed in its header',
        token({ header: header({ typ: 'rt+jwt' }), payload: claims() }),
        'wrong_type',
      ],
    ])
    for (const type of [undefined, null, 5, '', 'ACCESS', 'access ', ['access'], true]) {
      const text = tokenWith({ type })
      await judge(t, [[`claim type ${JSON.stringify(type)}`, text, 'wrong_type']])
    }
    t.match(await goodClaims(refreshToken()), { type: 'refresh' }, 'told apart by their type')
  })

  await t.test('issuer and audience', async (t) => {
    const others: readonly unknown[] = [
      undefined,
      null,
      '',
      'wrong',
      `${ISSUER}.evil`,
      `${ISSUER}/`,
      ISSUER.slice(0, -1),
      ISSUER.toUpperCase(),
      ` ${ISSUER}`,
      [ISSUER],
      { iss: ISSUER },
      1,
      true,
    ]
    for (const iss of others) {
      await judge(t, [[JSON.stringify(iss), tokenWith({ iss }), 'wrong_issuer']])
    }
    const notFor: readonly unknown[] = [
      undefined,
      null,
      '',
      'wrong',
      `${AUDIENCE}x`,
      AUDIENCE.toUpperCase(),
      ['other'],
      [],
      [[AUDIENCE]],
      [AUDIENCE, 1],
      [null, AUDIENCE],
      1,
      { 0: AUDIENCE },
    ]
    for (const aud of notFor) {
      await judge(t, [[JSON.stringify(aud), tokenWith({ aud }), 'wrong_audience']])
    }
    await judge(t, [
      ['ours alone in a list', tokenWith({ aud: [AUDIENCE] }), 'good'],
      ['ours among others', tokenWith({ aud: ['other', AUDIENCE] }), 'good'],
    ])
  })

  await t.test('who it is', async (t) => {
    for (const name of ['sub', 'sid', 'jti', 'username', 'role']) {
      for (const value of [undefined, null, '', 7, true, ['a', 'b'], { a: 1 }, 'a'.repeat(300)]) {
        const text = tokenWith({ [name]: value })
        await judge(t, [[`${name} ${show(value).slice(0, 20)}`, text, 'bad_claims']])
      }
      for (const value of [
        'a\r\nX-Admin: 1',
        'a\u0000b',
        'a\tb',
        ' a',
        'a ',
        '\u00a0a',
        '201\u202e',
        'a\u200b',
        'a\u2028b',
        'a\u0085',
        'a\ud800',
        '\udc00a',
        '\ufeffa',
      ]) {
        const text = tokenWith({ [name]: value })
        await judge(t, [[`${name} ${show(value)}`, text, 'bad_claims']])
      }
    }
    for (const name of ['sub', 'sid', 'jti']) {
      for (const value of ['Jürgen', '２０１', 'x,admin', 'a b', '../a', 'a|b', 'a'.repeat(65)]) {
        await judge(t, [[`${name} ${show(value)}`, tokenWith({ [name]: value }), 'bad_claims']])
      }
    }
    const roles = Array.from({ length: 1000 }, () => 'ab')
    await judge(t, [
      ['1,000 roles', tokenWith({ role: roles }), 'bad_claims'],
      ['1,000 roles in a text', tokenWith({ role: roles.join(',') }), 'bad_claims'],
      ['the longest role', tokenWith({ role: 'r'.repeat(64) }), 'good'],
      ['a longer one', tokenWith({ role: 'r'.repeat(65) }), 'bad_claims'],
      ['the longest name', tokenWith({ username: 'n'.repeat(256) }), 'good'],
      ['a longer one', tokenWith({ username: 'n'.repeat(257) }), 'bad_claims'],
      ['claims that we do not know', tokenWith({ scope: 'x', userId: '201' }), 'good'],
    ])
    for (const username of [
      'Jürgen',
      'пользователь',
      '２０１',
      'a\u0301',
      'á',
      'O’Brien',
      '0',
      'a,b',
    ]) {
      t.equal((await goodClaims(tokenWith({ username }))).username, username, 'byte for byte')
    }
  })

  await t.test('a payload that two readers would read as two', async (t) => {
    const twice = (text: string) =>
      token({ payload: JSON.stringify(claims()).replace(/\}$/, `,${text}}`) })
    await judge(t, [
      ['sub twice', twice('"sub":"1"'), 'bad_claims'],
      ['sub twice, equal', twice('"sub":"7"'), 'bad_claims'],
      ['sub in two spellings', twice('"\\u0073ub":"1"'), 'bad_claims'],
      ['username twice', twice('"username":"admin"'), 'bad_claims'],
      ['exp twice', twice(`"exp":${NOW + 901}`), 'bad_claims'],
      ['twice in a claim that we do not read', twice('"x":{"a":1,"a":2}'), 'bad_claims'],
      ['a list', token({ payload: [1] }), 'bad_claims'],
      ['claims in a list', token({ payload: [claims()] }), 'bad_claims'],
      ['null', token({ payload: 'null' }), 'bad_claims'],
      ['a text', token({ payload: '"x"' }), 'bad_claims'],
      ['a number', token({ payload: '1' }), 'bad_claims'],
      ['nothing', seal(`${HEAD}.`), 'malformed_token'],
      ['an empty object', token({ payload: {} }), 'wrong_issuer'],
      ['a byte order mark', token({ payload: `\ufeff${JSON.stringify(claims())}` }), 'bad_claims'],
      [
        'UTF-16',
        token({ payload: Buffer.from(JSON.stringify(claims()), 'utf16le') }),
        'bad_claims',
      ],
      [
        'bytes that are not UTF-8',
        token({ payload: Buffer.from(claimsText('username', '"\xe9"'), 'latin1') }),
        'bad_claims',
      ],
      ['more after it', token({ payload: `${JSON.stringify(claims())}x` }), 'bad_claims'],
      [
        'claims under __proto__',
        token({ payload: `{"__proto__":${JSON.stringify(claims())}}` }),
        'wrong_issuer',
      ],
    ])
  })
})

void t.test('a ticket says what it is for, and is taken for nothing else', async (t) => {
  const verdict = await goodClaims(ticket())
  t.match(verdict, {
    type: 'ticket',
    username: '201',
    ticket: { action: 'read', until: NOW + 900 },
  })
  t.equal(verdict.ticket?.pattern.text, 'read:recordings/201/a.mp3')
  t.equal((await goodClaims(good)).ticket, undefined)
  const asAccess = { header: header(), payload: claims({ type: 'ticket' }) }
  const SIP = { action: 'connect', resource: 'sip' }
  await judge(t, [
    ['under the header of an access token', token(asAccess), 'wrong_type'],
    ['an access token under its header', tokenUnder({ typ: 'tk+jwt' }), 'wrong_type'],
    ['an hour', ticket({ exp: NOW + 3600 }), 'good'],
    ['more than an hour', ticket({ exp: NOW + 3601 }), 'bad_claims'],
    ['a day for SIP', ticket({ ...SIP, exp: NOW + 86_400 }), 'good'],
    ['more than a day', ticket({ ...SIP, exp: NOW + 86_401 }), 'bad_claims'],
    ['all of connect', ticket({ ...SIP, resource: '**', exp: NOW + 3601 }), 'bad_claims'],
    ['no action', ticket({ action: undefined }), 'bad_claims'],
    ['an action that is none', ticket({ action: 'delete' }), 'bad_claims'],
    ['no resource', ticket({ resource: undefined }), 'bad_claims'],
    ['a resource that climbs', ticket({ resource: 'recordings/../x' }), 'bad_claims'],
    ['a list of resources', ticket({ resource: ['a'] }), 'bad_claims'],
    ['no end of the right', ticket({ until: undefined }), 'bad_claims'],
    ['a fraction', ticket({ until: NOW + 0.5 }), 'bad_claims'],
    ['action and colon', ticket({ action: 'read:x', resource: 'y' }), 'bad_claims'],
  ])
})

void t.test('nothing is said of the content before the MAC is right', async (t) => {
  const forged = (payload: unknown) => token({ payload, key: secretOf('somebody else') })
  for (const [what, payload] of [
    ['expired', claims({ exp: NOW - 1 })],
    ['of another issuer', claims({ iss: 'x' })],
    ['for another audience', claims({ aud: 'x' })],
    ['of another type', claims({ type: 'refresh' })],
    ['no object', '[]'],
    ['good', claims()],
  ] as const) {
    t.equal(outcomeOf(await tokens.verify(forged(payload))), 'bad_signature', what)
  }
})

void t.test('no change of one character leaves a token good', async (t) => {
  const bytes = fc.constantFrom(
    ...Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/. \t\né'),
  )
  const position = fc.nat({ max: good.length - 1 })
  const edit = fc.constantFrom('replace', 'insert', 'delete', 'swap')
  await fc.assert(
    fc.asyncProperty(position, bytes, edit, async (at, char, how) => {
      const rest = good.slice(at + 1)
      const edited = {
        replace: good.slice(0, at) + char + rest,
        insert: good.slice(0, at) + char + good.slice(at),
        delete: good.slice(0, at) + rest,
        swap: good.slice(0, at) + rest.slice(0, 1) + good.charAt(at) + rest.slice(1),
      }[how]
      return edited === good || 'refused' in (await tokens.verify(edited))
    }),
    { numRuns: 3000 },
  )
  t.pass('3,000 edits')
})

void t.test('no text makes it throw', async (t) => {
  const any = fc.string({ unit: 'binary', maxLength: 300 })
  const segments = fc.array(fc.oneof(any, any.map(b64)), { maxLength: 5 })
  const shaped = segments.map((parts) => parts.join('.'))
  const signed = fc
    .tuple(fc.jsonValue(), fc.jsonValue())
    .map(([head, payload]) =>
      token({ header: JSON.stringify(head), payload: JSON.stringify(payload) }),
    )
  const headed = fc.oneof(any, fc.json()).map((payload) => token({ payload }))
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(any, shaped, signed, headed),
      async (text) => 'refused' in (await tokens.verify(text)),
    ),
    { numRuns: 2000 },
  )
  t.pass('2,000 texts')
})

const counted = (keyring: Keyring) => {
  let looked = 0
  const byKid: Keyring['byKid'] = new Proxy(keyring.byKid, {
    get(map, name) {
      if (name !== 'get') throw new Error(`not expected: ${String(name)}`)
      return (kid: string) => {
        looked++
        return map.get(kid)
      }
    },
  })
  return { keyring: { ...keyring, byKid }, looked: () => looked }
}

void t.test('one token asked for 100 times at once is verified once', async (t) => {
  const { keyring, looked } = counted(await keyringOf(KID))
  const tokens = await createTestTokens({ keyring })
  const subtle = Object.getPrototypeOf(crypto.subtle) as typeof crypto.subtle
  const calls = t.capture(subtle, 'verify', subtle.verify)
  const verdicts = await Promise.all(Array.from({ length: 100 }, async () => tokens.verify(good)))
  t.equal(calls().length, 1, 'one signature')
  t.equal(looked(), 1, 'one look at the keys')
  t.equal(new Set(verdicts).size, 1)
  t.ok(tokens.remembered(good), 'a remembered verdict is there at once')
  t.equal(looked(), 1)
})

void t.test(
  'a bad token asked for 100 times at once is verified once, and refused at once',
  async (t) => {
    const { keyring, looked } = counted(await keyringOf(KID))
    const tokens = await createTestTokens({ keyring })
    const forged = token({ key: secretOf('somebody else') })
    const verdicts = await Promise.all(
      Array.from({ length: 100 }, async () => tokens.verify(forged)),
    )
    t.equal(looked(), 1)
    for (const verdict of verdicts) t.equal(outcomeOf(verdict), 'bad_signature')
    t.same(tokens.remembered(forged), { refused: 'bad_signature' })
  },
)

void t.test('verdicts are remembered in bounded memory, the busy ones longest', async (t) => {
  const { keyring, looked } = counted(await keyringOf(KID))
  const tokens = await createTestTokens({ keyring, cacheSize: 10 })
  const texts = Array.from({ length: 100 }, (_, i) => tokenWith({ jti: `token-${i}` }))
  for (const text of texts) await tokens.verify(text)
  t.equal(looked(), 100)
  const remembered = texts.filter((text) => tokens.remembered(text))
  t.ok(remembered.length >= 10 && remembered.length <= 20, `${remembered.length} of 100`)
})

void t.test('a flood of garbage drives out no good token', async (t) => {
  const tokens = await createTestTokens({ cacheSize: 1 })
  await tokens.verify(good)
  for (let i = 0; i < 5000; i++) await tokens.verify(`garbage ${i}`)
  t.ok(tokens.remembered(good))
})

void t.test('what was issued with a successor is told of when it is not remembered', async (t) => {
  const shown: string[] = []
  const onShown = (sid: string, generation: number) => void shown.push(`${sid} ${generation}`)
  const tokens = await createTestTokens({ onShown, cacheSize: 1 })
  const of = (gen: number, changes = {}) => tokenWith({ gen, sid: `s${gen}`, ...changes })
  await Promise.all(Array.from({ length: 10 }, async () => tokens.verify(of(1))))
  await tokens.verify(of(1))
  t.same(shown, ['s1 1'], 'once')
  await tokens.verify(of(2))
  await tokens.verify(of(3))
  await tokens.verify(of(1))
  t.same(shown.splice(0), ['s1 1', 's2 2', 's3 3', 's1 1'], 'and again once it is forgotten')
  await tokens.verify(tokenWith({ sid: 'of a login, or of an older version' }))
  await tokens.verify(tokenWith({ gen: 4, sid: '' }))
  await tokens.verify(token({ payload: claims({ gen: 4 }), key: secretOf('somebody else') }))
  t.same(shown, [])
  await tokens.verify(of(5, { exp: NOW }))
  t.same(shown, ['s5 5'], 'also of one that has run out: it has arrived')
  for (const gen of [0, -1, 1.5, '1', null, true, [1]]) {
    await judge(t, [[`gen ${JSON.stringify(gen)}`, tokenWith({ gen }), 'bad_claims']])
  }
})

void t.test('a verdict belongs to one spelling alone', async (t) => {
  const tokens = await createTestTokens()
  await tokens.verify(good)
  for (const spelling of [
    `${good} `,
    `${good}=`,
    ` ${good}`,
    `${good}.`,
    `${good}\n`,
    `Bearer ${good}`,
  ]) {
    t.equal(outcomeOf(await tokens.verify(spelling)), 'malformed_token')
  }
})

void t.test('a number stands in a token as text of digits, or not at all', async (t) => {
  const tokens = await createTestTokens()
  t.match(await tokens.verify(tokenWith({ num: '0202' })), { number: '0202' })
  t.match(await tokens.verify(ticket({ num: '201' })), { number: '201' })
  t.equal('number' in (await tokens.verify(tokenWith({}))), false)
  for (const num of [201, '', '+201', '201 ', null, ['201'], true]) {
    await judge(t, [[`num ${JSON.stringify(num)}`, tokenWith({ num }), 'bad_claims']])
  }
})

void t.test('a key that is gone takes its tokens with it, another one stays', async (t) => {
  const old = token({ header: header({ kid: 'old' }), key: secretOf('old') })
  const both = await createTestTokens({ keyring: await keyringOf('new', 'old') })
  t.equal(outcomeOf(await both.verify(old)), 'good')
  const issued = await both.issue({
    type: 'access',
    sub: '7',
    username: '201',
    role: 'user',
    sid: 's',
    jti: 'j',
    iat: NOW,
    exp: NOW + 900,
  })
  t.match(decodeProtectedHeader(issued), { kid: 'new' }, 'the first of the set signs')
  const one = await createTestTokens({ keyring: await keyringOf('new') })
  t.equal(outcomeOf(await one.verify(old)), 'unknown_key')
  t.equal(outcomeOf(await one.verify(issued)), 'good')
})

void t.test('two issuers with one key do not take each other’s tokens', async (t) => {
  const keyring = await keyringOf(KID)
  const other = createTokens({
    keyring,
    issuer: 'https://b.example',
    audience: AUDIENCE,
    cacheSize: 1,
  })
  t.equal(outcomeOf(await other.verify(good)), 'wrong_issuer')
})

void t.test('a token counts until the second of its end, and from its beginning on', async (t) => {
  const LEEWAY = 5
  const rows: readonly (readonly [changes: object, expected: Reason | undefined])[] = [
    [{ exp: NOW - LEEWAY - 1 }, 'expired'],
    [{ exp: NOW - LEEWAY }, 'expired'],
    [{ exp: NOW - 1 }, 'expired'],
    [{ exp: NOW }, 'expired'], // RFC 7519 §4.1.4: on or after
    [{ exp: NOW + 1 }, undefined],
    [{ nbf: NOW + LEEWAY }, undefined],
    [{ nbf: NOW + LEEWAY + 1 }, 'not_yet_valid'],
    [{ nbf: NOW + 100 }, 'not_yet_valid'],
    [{ iat: NOW + LEEWAY }, undefined],
    [{ iat: NOW + LEEWAY + 1 }, 'not_yet_valid'],
    [{ iat: NOW - 80_000 }, undefined],
    [{ iat: NOW + 100, nbf: NOW + 100, exp: NOW - 1 }, 'expired'],
  ]
  for (const [changes, expected] of rows) {
    const found = judgeTime(await goodClaims(tokenWith({ ...changes })), NOW)
    t.equal(found?.refused, expected, JSON.stringify(changes))
  }
})

void t.test('F22: no year makes an instant wrap', async (t) => {
  for (const end of [2 ** 31 - 1, 2 ** 31, 2 ** 31 + 1, 2 ** 32 + 1]) {
    const found = await goodClaims(tokenWith({ iat: end - 900, nbf: end - 900, exp: end }))
    t.equal(judgeTime(found, end - 1), undefined)
    t.equal(judgeTime(found, end)?.refused, 'expired')
  }
})

void t.test('a MAC may begin with any byte', async (t) => {
  const wanted = new Set([0x00, 0xff])
  for (let i = 0; wanted.size > 0 && i < 10_000; i++) {
    const text = tokenWith({ jti: `token-${i}` })
    const first = Buffer.from(text.slice(text.lastIndexOf('.') + 1), 'base64url')[0]
    if (first === undefined || !wanted.delete(first)) continue
    t.equal(outcomeOf(await tokens.verify(text)), 'good', `${first}`)
  }
  t.equal(wanted.size, 0)
  t.equal(mac(`${HEAD}.${BODY}`).length, 43)
})
