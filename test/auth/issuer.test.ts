// Tokens of other systems: which count, as whom, in which role; and that nobody of theirs is anybody of ours.

import { createPublicKey } from 'node:crypto'
import t from 'tap'
import { createGuard, createStillGranted } from '../../src/auth/check.ts'
import { createPolicy } from '../../src/auth/grants.ts'
import {
  createTrustedIssuers,
  foreignName,
  IssuerAwayError,
  isForeignName,
  type IssuerKeys,
  type IssuerTerms,
  type KeySet,
  parseIssuerKeys,
} from '../../src/auth/issuer.ts'
import type { Lookup } from '../../src/users/source.ts'
import { type Asymmetric, ASYMMETRIC } from '../../src/auth/jwk.ts'
import { createRevocations } from '../../src/auth/revocations.ts'
import { createTokens } from '../../src/auth/token.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { keyringOf, keySet } from '../fixtures/keys.ts'
import {
  FOREIGN_AUDIENCE,
  FOREIGN_ISSUER,
  foreignClaims,
  foreignToken,
  pairOf,
} from '../fixtures/pairs.ts'
import { AUDIENCE, b64, claims, ISSUER, KID, mac, token } from '../fixtures/tokens.ts'

const RS = pairOf('RS256', 'their-rs')
const ES = pairOf('ES256', 'https://id.acme.example/keys#1=')
const ED = pairOf('EdDSA', 'their.ed')
const SET = keySet(RS.open, ES.open, ED.open)

const TERMS: IssuerTerms = {
  name: 'acme',
  issuer: FOREIGN_ISSUER,
  audience: FOREIGN_AUDIENCE,
  algorithms: ASYMMETRIC,
  usernameClaim: 'sub',
  roleClaim: 'realm_access.roles',
  roles: new Map([
    ['pbx-admin', 'admin'],
    ['staff', 'user'],
  ]),
}

const keysOf = async (text: string, algorithms: readonly Asymmetric[] = ASYMMETRIC) => {
  const found = await parseIssuerKeys(text, algorithms)
  if ('problem' in found) throw new Error(found.problem)
  return found
}

/** A source that a test changes, and that counts how often it was asked again. */
const sourceOf = (keys: KeySet | undefined) => {
  const source = {
    keys,
    renewed: 0,
    onRenew: (): void => undefined,
    current: () => source.keys,
    async renew() {
      source.renewed++
      source.onRenew()
    },
  }
  return source satisfies IssuerKeys
}

const setUp = async (terms: Partial<IssuerTerms> = {}, text = SET) => {
  const clock = createTestClock()
  const source = sourceOf(await keysOf(text, terms.algorithms))
  const identified: string[] = []
  const trusted = createTrustedIssuers([{ terms: { ...TERMS, ...terms }, keys: source }], {
    cacheSize: 10,
    async identify(username) {
      identified.push(username)
      return 40 + identified.length
    },
  })
  const keyring = await keyringOf(KID)
  const tokens = createTokens({
    keyring,
    issuer: ISSUER,
    audience: AUDIENCE,
    cacheSize: 10,
    trusted,
  })
  const policy = createPolicy(
    new Map([
      ['user', ['subscribe:users-state', 'subscribe:me/*', 'read:recordings/{username}/**']],
      ['admin', ['read:**']],
    ]),
  )
  // A source of ours that knows nobody: theirs are not looked for here.
  const peek = (username: string): Lookup =>
    username === 'admin'
      ? { user: { name: 'admin', role: 'admin', displayName: '', credential: '' } }
      : { refused: 'unknown_user' }
  const stillGranted = createStillGranted({
    policy,
    peek,
    isForeign: (username) => isForeignName(['acme'], username),
  })
  const guard = createGuard({
    tokens,
    revocations: createRevocations(),
    policy,
    peek,
    ownRole: new Map([['user', 'admin']]),
    owes: ({ username }) => isForeignName(['acme'], username), // it is about our own
    clock,
  })
  const verdict = async (text: string): Promise<string> => {
    const found = await guard.identify(text)
    return 'refused' in found ? found.refused : 'accepted'
  }
  return { clock, source, identified, tokens, guard, stillGranted, verdict }
}

void t.test('no issuer, nothing to ask', async (t) => {
  const none = createTrustedIssuers([], { cacheSize: 1, identify: async () => 1 })
  t.equal(none, undefined)
})

void t.test('a token of theirs counts, under a name that is none of ours', async (t) => {
  const { guard, identified, tokens } = await setUp()
  for (const pair of [RS, ES, ED]) {
    const text = foreignToken(pair)
    const found = await guard.identify(text)
    if ('refused' in found) throw new Error(found.refused)
    t.match(found, {
      role: 'user', // as mapped, and not by the names that a dialect of ours has for roles
      claims: {
        type: 'access',
        username: 'acme:f:1234|anna',
        nbf: NOW,
        exp: NOW + 900,
        foreign: true,
      },
    })
    t.match(found.claims.sub, /^4\d$/, 'a number of the store')
    t.match(found.claims.sid, /^[\w-]{22}$/)
    t.ok(tokens.remembered(text), 'remembered: at once')
    t.same(await guard.identify(text), found)
  }
  t.equal(identified.length, 3, 'once for each token')
})

void t.test('the same login is the same session, another token is another', async (t) => {
  const { guard } = await setUp()
  const sidOf = async (payload: unknown): Promise<string> => {
    const found = await guard.identify(foreignToken(ED, { payload }))
    return 'refused' in found ? found.refused : found.claims.sid
  }
  const one = await sidOf(foreignClaims())
  t.equal(await sidOf(foreignClaims({ exp: NOW + 800 })), one, 'by jti')
  t.not(await sidOf(foreignClaims({ jti: 'their-token-2' })), one)
  const bare = await sidOf(foreignClaims({ jti: undefined }))
  t.not(bare, one)
  t.equal(await sidOf(foreignClaims({ jti: undefined })), bare, 'by the token')
})

void t.test('their admin is never ours', async (t) => {
  const { guard, stillGranted, clock } = await setUp()
  const text = foreignToken(ED, { payload: foreignClaims({ sub: 'admin' }) })
  const ask = async (action: string, resource: string): Promise<string> => {
    const found = await guard.check({ token: text, action, resource })
    return 'refused' in found ? found.refused : found.role
  }
  t.equal(await ask('subscribe', 'users-state'), 'user')
  t.equal(await ask('subscribe', 'me/users-state'), 'user')
  t.equal(await ask('read', 'recordings/b/a.mp3'), 'no_grant')
  t.equal(await ask('read', 'recordings/admin/a.mp3'), 'no_grant', '{username} is the whole name')
  const subject = { username: 'acme:admin', id: '41' }
  t.ok(stillGranted('user', 'subscribe', 'users-state', subject))
  t.notOk(stillGranted('user', 'subscribe', 'users-state', { ...subject, username: 'gone:admin' }))
  clock.advance(905)
  t.equal(await ask('subscribe', 'users-state'), 'expired')
})

void t.test('names of an issuer are told by what stands before them', async (t) => {
  t.equal(foreignName('acme', 'anna'), 'acme:anna')
  for (const name of ['acme:anna', 'acme:', 'acme::'])
    t.ok(isForeignName(['x', 'acme'], name), name)
  for (const name of ['anna', 'acme', 'ACME:anna', ' acme:anna', 'acm:e']) {
    t.notOk(isForeignName(['x', 'acme'], name), name)
  }
})

type Row = readonly [what: string, changes: Readonly<Record<string, unknown>>, expected: string]

void t.test('every claim that is required is, and means one thing', async (t) => {
  const rows: readonly Row[] = [
    ['as it should be', {}, 'accepted'],
    ['aud as text', { aud: 'pbx' }, 'accepted'],
    ['another aud', { aud: ['account'] }, 'wrong_audience'],
    ['our own aud', { aud: AUDIENCE + 'x' }, 'wrong_audience'],
    ['no aud', { aud: undefined }, 'wrong_audience'],
    ['no exp', { exp: undefined }, 'bad_claims'],
    ['no iat', { iat: undefined }, 'bad_claims'],
    ['exp as text', { exp: String(NOW + 900) }, 'bad_claims'],
    ['exp in milliseconds', { exp: (NOW + 900) * 1000 }, 'bad_claims'],
    ['a life over a day', { exp: NOW + 86_401 }, 'bad_claims'],
    ['a fraction', { exp: NOW + 0.5 }, 'bad_claims'],
    ['nbf as null', { nbf: null }, 'bad_claims'],
    ['jti as number', { jti: 7 }, 'bad_claims'],
    ['expired within the leeway', { iat: NOW - 900, exp: NOW - 4 }, 'accepted'],
    ['expired', { iat: NOW - 900, exp: NOW - 5 }, 'expired'],
    ['from the future within the leeway', { iat: NOW + 5 }, 'accepted'],
    ['from the future', { iat: NOW + 6 }, 'not_yet_valid'],
    ['not before, ahead', { nbf: NOW + 6 }, 'not_yet_valid'],
    ['no sub', { sub: undefined }, 'bad_claims'],
    ['sub of two lines', { sub: 'a\nX-Admin: 1' }, 'bad_claims'],
    ['sub turned around', { sub: '201\u202e' }, 'bad_claims'],
    ['sub as list', { sub: ['a'] }, 'bad_claims'],
    ['a long sub', { sub: 'a'.repeat(191) }, 'bad_claims'],
    ['unicode', { sub: 'Jürgen' }, 'accepted'],
    ['no role', { realm_access: undefined }, 'unknown_role'],
    ['a role without mapping', { realm_access: { roles: ['boss'] } }, 'unknown_role'],
    ['no roles', { realm_access: { roles: [] } }, 'unknown_role'],
    ['our name of a role', { realm_access: { roles: ['admin'] } }, 'unknown_role'],
    ['a role as text', { realm_access: { roles: 'staff' } }, 'accepted'],
    ['a list in a text', { realm_access: { roles: 'staff,pbx-admin' } }, 'unknown_role'],
    ['realm_access as text', { realm_access: 'staff' }, 'unknown_role'],
    ['an ID token of OpenID Connect', { at_hash: 'x' }, 'wrong_type'],
    ['an ID token of Keycloak', { typ: 'ID' }, 'wrong_type'],
    ['a refresh token of Keycloak', { typ: 'Refresh' }, 'wrong_type'],
    ['an access token of Keycloak', { typ: 'Bearer' }, 'accepted'],
    ['an ID token of Cognito', { token_use: 'id' }, 'wrong_type'],
    ['an access token of Cognito', { token_use: 'access' }, 'accepted'],
    ['a logout token', { events: {} }, 'wrong_type'],
  ]
  for (const [what, changes, expected] of rows) {
    const { verdict } = await setUp()
    t.equal(await verdict(foreignToken(ED, { payload: foreignClaims(changes) })), expected, what)
  }
})

void t.test('iss is byte for byte the one of the config', async (t) => {
  const { verdict } = await setUp()
  for (const iss of [`${FOREIGN_ISSUER}/`, `${FOREIGN_ISSUER}.evil`, [FOREIGN_ISSUER], undefined]) {
    const text = foreignToken(ED, { payload: foreignClaims({ iss }), header: { typ: 'at+jwt' } })
    t.equal(await verdict(text), 'unknown_key', JSON.stringify(iss))
  }
  const twice = JSON.stringify(foreignClaims()).replace('{', '{"iss":"https://other.example",')
  t.equal(await verdict(foreignToken(ED, { payload: twice })), 'wrong_type', 'named twice: no iss')
})

void t.test('the header says which of the known keys, and nothing more', async (t) => {
  const canary = 'http://127.0.0.1:1/jwks'
  const rows: readonly Row[] = [
    ['JWT', {}, 'accepted'],
    ['at+jwt', { typ: 'at+jwt' }, 'accepted'],
    ['application/at+jwt', { typ: 'Application/AT+JWT' }, 'accepted'],
    ['no typ', { typ: undefined }, 'wrong_type'],
    ['our refresh', { typ: 'rt+jwt' }, 'wrong_type'],
    ['our ticket', { typ: 'tk+jwt' }, 'wrong_type'],
    ['a number', { typ: 5 }, 'wrong_type'],
    ['a thumbprint beside kid', { x5t: 'abc' }, 'accepted'],
    ['embedded jwk', { jwk: ED.open }, 'malformed_token'],
    ['jku', { jku: canary }, 'malformed_token'],
    ['x5u', { x5u: canary }, 'malformed_token'],
    ['x5c', { x5c: ['AA'] }, 'malformed_token'],
    ['crit', { crit: ['exp'] }, 'malformed_token'],
    ['b64', { b64: false }, 'malformed_token'],
    ['zip', { zip: 'DEF' }, 'malformed_token'],
    ['none', { alg: 'none' }, 'bad_signature'],
    ['HS256', { alg: 'HS256' }, 'bad_signature'],
    ['another of theirs', { alg: 'ES256' }, 'bad_signature'],
    ['no alg', { alg: undefined }, 'bad_signature'],
    ['no kid', { kid: undefined }, 'unknown_key'],
    ['kid as list', { kid: ['their.ed'] }, 'unknown_key'],
    ['a path', { kid: '../../etc/passwd' }, 'unknown_key'],
    ['another of their keys', { kid: RS.kid }, 'bad_signature'],
    ['our own kid', { kid: KID }, 'unknown_key'],
  ]
  for (const [what, header, expected] of rows) {
    const { verdict } = await setUp()
    t.equal(await verdict(foreignToken(ED, { header })), expected, what)
  }
})

void t.test('their public key is no secret of an HMAC, nor ours a key of theirs', async (t) => {
  const { verdict } = await setUp()
  const open = createPublicKey(RS.privateKey)
  const pem = open.export({ format: 'pem', type: 'spki' }).toString()
  const secrets = [
    Buffer.from(pem),
    Buffer.from(` ${pem}`),
    Buffer.from(`\n${pem}`),
    open.export({ format: 'der', type: 'spki' }),
    Buffer.from(JSON.stringify(RS.open)),
  ]
  for (const kid of [RS.kid, KID]) {
    for (const secret of secrets) {
      const text = `${b64({ alg: 'HS256', typ: 'JWT', kid })}.${b64(foreignClaims())}`
      const found = await verdict(`${text}.${mac(text, secret)}`)
      t.ok(['bad_signature', 'unknown_key'].includes(found), found)
    }
  }
  const forged = foreignToken({ ...pairOf('EdDSA', ED.kid) })
  t.equal(await verdict(forged), 'bad_signature', 'somebody else’s key under their kid')
  // The key must belong to the issuer (RFC 8725bis §3.8): theirs says nothing in our name, nor ours in theirs.
  t.equal(
    await verdict(foreignToken(ED, { payload: claims(), header: { typ: 'at+jwt' } })),
    'unknown_key',
  )
  t.equal(await verdict(token({ payload: foreignClaims() })), 'unknown_key')
})

void t.test(
  'of several roles the first of the config counts, wherever the claim lies',
  async (t) => {
    const roleOf = async (terms: Partial<IssuerTerms>, changes: object): Promise<string> => {
      const { guard } = await setUp(terms)
      const payload = foreignClaims({ realm_access: undefined, ...changes })
      const found = await guard.identify(foreignToken(ED, { payload }))
      return 'refused' in found ? found.refused : `${found.claims.username} ${found.role}`
    }
    const both = { roles: ['staff', 'pbx-admin'] }
    t.equal(await roleOf({ roleClaim: 'roles' }, both), 'acme:f:1234|anna admin')
    const dotted = 'https://acme.example/roles'
    t.equal(await roleOf({ roleClaim: dotted }, { [dotted]: 'staff' }), 'acme:f:1234|anna user')
    t.equal(
      await roleOf({ roleClaim: 'a.b.c' }, { a: { b: { c: 'staff' } } }),
      'acme:f:1234|anna user',
    )
    t.equal(await roleOf({ roleClaim: 'constructor.name' }, {}), 'unknown_role')
    const named = { usernameClaim: 'user.name', roleClaim: 'roles' }
    t.equal(await roleOf(named, { ...both, user: { name: 'anna' } }), 'acme:anna admin')
    t.equal(await roleOf(named, { ...both, user: { name: '' } }), 'bad_claims')
  },
)

void t.test('an unknown kid asks the source again, a known one never', async (t) => {
  const { source, verdict } = await setUp({}, keySet(RS.open))
  t.equal(await verdict(foreignToken(RS)), 'accepted')
  t.equal(source.renewed, 0)
  t.equal(await verdict(foreignToken(ED)), 'unknown_key')
  t.equal(source.renewed, 1)
  const next = await keysOf(SET)
  source.onRenew = () => {
    source.keys = next
  }
  t.equal(await verdict(foreignToken(ED)), 'accepted', 'it was not remembered as unknown')
  t.equal(source.renewed, 2)
})

void t.test('a key that its issuer withdraws verifies nothing, remembered or not', async (t) => {
  const { source, verdict } = await setUp()
  const text = foreignToken(ED)
  t.equal(await verdict(text), 'accepted')
  const bad = foreignToken(ED, { header: { kid: RS.kid } })
  t.equal(await verdict(bad), 'bad_signature')
  t.equal(await verdict(bad), 'bad_signature', 'remembered')
  source.keys = await keysOf(keySet(RS.open))
  t.equal(await verdict(text), 'unknown_key')
})

void t.test('where their keys are not to be had, nobody is judged', async (t) => {
  const { source, tokens, verdict } = await setUp()
  source.keys = undefined
  const text = foreignToken(ED)
  await t.rejects(Promise.resolve(tokens.verify(text)), IssuerAwayError)
  source.keys = await keysOf(SET)
  t.equal(await verdict(text), 'accepted', 'the fault was not remembered')
  t.equal(await verdict(token()), 'user_removed', 'ours are judged by our rules')
})

void t.test('of their set what is for us is taken, and half a set is none', async (t) => {
  const kidsOf = async (text: string, algorithms: readonly Asymmetric[] = ASYMMETRIC) => {
    const found = await parseIssuerKeys(text, algorithms)
    return 'problem' in found ? found.problem : [...found.keys()]
  }
  t.same(await kidsOf(SET), [RS.kid, ES.kid, ED.kid])
  t.same(await kidsOf(SET, ['ES256']), [ES.kid])
  t.same(await kidsOf(keySet({ ...RS.open, alg: undefined })), [RS.kid], 'many write no alg')
  const NONE = 'holds no key for EdDSA, ES256, RS256 with a kid that can be used'
  const rows: readonly (readonly [what: string, jwk: unknown])[] = [
    ['a secret', { kty: 'oct', kid: 'a', alg: 'HS256', k: 'AAAA' }],
    ['for encryption', { ...RS.open, use: 'enc' }],
    ['for signing alone', { ...RS.open, key_ops: ['sign'] }],
    ['for a word', { ...RS.open, key_ops: 'verify' }],
    ['no kid', { ...RS.open, kid: undefined }],
    ['a kid with a blank', { ...RS.open, kid: 'a b' }],
    ['RS512', { ...RS.open, alg: 'RS512' }],
    ['a weak one', pairOf('RS256', 'a', 1024).open],
    ['no object', 7],
    ['null', null],
  ]
  for (const [what, jwk] of rows) {
    t.same(await kidsOf(keySet(jwk)), NONE, what)
    t.same(await kidsOf(keySet(jwk, ED.open)), [ED.kid], `${what}, beside a good one`)
  }
  t.same(await kidsOf(keySet(RS.open, RS.open)), 'names two keys with one kid')
  t.same(await kidsOf(keySet(...Array<unknown>(101).fill(RS.open))), 'holds more than 100 keys')
  for (const text of ['', '[]', '{"keys":{}}', '{"keys":[],"keys":[]}', '<html>']) {
    t.same(await kidsOf(text), 'is not a JWK Set: an object with a list "keys"', text)
  }
})
