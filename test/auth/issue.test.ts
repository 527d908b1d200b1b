// The tokens of a session: who they name, and until when.

import t from 'tap'
import { decodeJwt } from 'jose'
import {
  accessExpiry,
  createId,
  issueAccessToken,
  issueRefreshToken,
} from '../../src/auth/issue.ts'
import type { Session } from '../../src/store/store.ts'
import { NOW } from '../fixtures/clock.ts'
import { createTestTokens } from '../fixtures/tokens.ts'
import { MIKOPBX, SOFTPHONE } from './rig.ts'

const SESSION: Session = {
  sid: 'session-1',
  userId: 7,
  username: '201',
  role: 'user',
  dialect: 'softphone',
  credential: 'mark',
  language: 'de',
  persistent: false,
  createdAt: NOW,
  expiresAt: NOW + 86_400,
  accessUntil: NOW + 3600,
  seenAt: NOW,
  address: '192.0.2.1',
  agent: '',
}

const tokens = await createTestTokens()

void t.test('an id has 128 random bits and needs no quoting', async (t) => {
  const ids = Array.from({ length: 1000 }, createId)
  t.equal(new Set(ids).size, 1000)
  for (const id of ids) if (!/^[0-9a-f]{32}$/.test(id)) t.fail(id)
})

void t.test('an access token lives its time, and never longer than its session', async (t) => {
  t.equal(accessExpiry(SOFTPHONE, NOW, SESSION), NOW + 3600)
  t.equal(accessExpiry(MIKOPBX, NOW, SESSION), NOW + 900)
  t.equal(accessExpiry(SOFTPHONE, NOW + 86_400 - 60, SESSION), SESSION.expiresAt)
})

void t.test('an access token of a session is one of ours', async (t) => {
  const text = await issueAccessToken(tokens, SESSION, SOFTPHONE, NOW)
  t.match(await tokens.verify(text), {
    type: 'access',
    sub: '7',
    username: '201',
    role: 'user',
    sid: 'session-1',
    iat: NOW,
    exp: NOW + 3600,
  })
  t.notOk('userId' in decodeJwt(text))
  t.notOk('gen' in decodeJwt(text))
  t.match(decodeJwt(await issueAccessToken(tokens, SESSION, SOFTPHONE, NOW, { gen: 3 })), {
    gen: 3,
  })
  const numbered = await issueAccessToken(tokens, SESSION, SOFTPHONE, NOW, { number: '201' })
  t.match(decodeJwt(numbered), { num: '201' })
  const odd = await issueAccessToken(tokens, SESSION, SOFTPHONE, NOW, { number: '1'.repeat(300) })
  t.notOk('num' in decodeJwt(odd), 'no token holds a number for which it would be refused')
  t.not(text, await issueAccessToken(tokens, SESSION, SOFTPHONE, NOW), 'two in a second')
})

void t.test('clients of the mikopbx dialect find their claims beside ours', async (t) => {
  const session = { ...SESSION, dialect: 'mikopbx' } as const
  const text = await issueAccessToken(tokens, session, MIKOPBX, NOW)
  t.match(decodeJwt(text), { userId: '201', language: 'de', sub: '7', exp: NOW + 900, nbf: NOW })
  t.match(await tokens.verify(text), { username: '201' })
})

void t.test('a dialect’s clients read the role under their own name for it', async (t) => {
  const terms = { ...MIKOPBX, opaqueRefresh: false, roleNames: new Map([['user', 'users']]) }
  const text = await issueAccessToken(tokens, SESSION, terms, NOW)
  t.match(decodeJwt(text), { role: 'users' })
  const refresh = await issueRefreshToken(tokens, SESSION, terms, NOW)
  t.match(decodeJwt(refresh), { role: 'user' }, 'a refresh token is for us alone')
})

void t.test('a refresh token has the form of its dialect', async (t) => {
  const jwt = await issueRefreshToken(tokens, SESSION, SOFTPHONE, NOW)
  t.match(await tokens.verify(jwt), { type: 'refresh', sid: 'session-1', exp: NOW + 86_400 })
  t.not(jwt, await issueRefreshToken(tokens, SESSION, SOFTPHONE, NOW))
  const opaque = await issueRefreshToken(tokens, SESSION, MIKOPBX, NOW)
  t.match(opaque, /^[0-9a-f]{64}$/)
})
