// Whatever is open ends with its right, however its client came and whatever ended the right: half a second after the
// answer no socket of it is left at nginx, and nothing more is heard. POSTERN_CUT=all for every case, else each pair.

import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { hashPassword } from '../../src/passwords/hash.ts'
import { needsOpenssl } from '../fixtures/canned-server.ts'
import { NEEDS_CUTTER } from '../fixtures/cutter.ts'
import { nginxMissing } from '../fixtures/nginx.ts'
import { allOf, pairwise } from '../fixtures/pairwise.ts'
import { CHEAP, HASH, nginxFound, until } from '../fixtures/postern.ts'
import { openCutSite, type Via, WAYS } from './cut-site.ts'
import { claimsOf } from './live.ts'

const BOUND = 500 // milliseconds after the answer
const BRIEF = 3 // seconds that a token lives where its end is waited for
const OTHER_HASH = hashPassword('another one', CHEAP)

const GRANTS = '"subscribe:room-*", "read:app", "read:recordings/**"'
const FACTORS = {
  way: WAYS,
  cause: ['expiry', 'logout', 'disable', 'remove', 'password', 'kick', 'grant', 'key'],
  via: ['direct', 'realip', 'proxy_protocol'] satisfies Via[],
  tls: [false, true],
  ip: [4, 6],
  http2: [false, true],
} as const

const isPossible = ({ http2, tls }: { http2: boolean; tls: boolean }): boolean => tls || !http2
const cases =
  process.env['POSTERN_CUT'] === 'all' ? allOf(FACTORS, isPossible) : pairwise(FACTORS, isPossible)

const skip = nginxMissing() || needsOpenssl.skip || NEEDS_CUTTER.skip

void t.test(`${cases.length} ends`, { skip }, async (t) => {
  const site = await openCutSite(t)
  const { place, control, enter, post } = site
  await nginxFound(place)

  const write = (lines: { user?: string; grants?: string; ttl?: number } = {}): void => {
    const { user = `203:${HASH}:case:Case`, grants = GRANTS, ttl = 3600 } = lines
    place.users(`201:${HASH}:user:Anna`, ...(user === '' ? [] : [user]))
    place.configure({
      softphone: `access_ttl = ${ttl}`,
      sessions: 'per_user = 0',
      streams: 'per_session = 64',
      throttle: 'pair_failures = 1000000\naddress_failures = 1000000\naccount_failures = 1000000',
      'roles.user': `grants = [${GRANTS}]`,
      'roles.case': `grants = [${grants}]`,
    })
  }
  const reload = async (): Promise<void> => {
    const { status, body } = await control('/reload')
    if (status !== 200) throw new Error(`reload: ${status} ${body}`)
  }
  /** Streams that were let in, uncuttable, since the cutter took too long. */
  const silencesOf = async (): Promise<number> => {
    const { body } = await place.operator('/metrics')
    return Number(/^postern_streams_uncuttable_total\{why="silent"\} (\d+)/m.exec(body)?.[1] ?? 0)
  }
  const keys = place.at('state', 'keys.json')

  /** Each resolves with its answer. */
  const causes: Record<(typeof FACTORS.cause)[number], (token: string) => Promise<unknown>> = {
    expiry: (token) => delay(claimsOf(token).exp * 1000 - Date.now()),
    logout: (token) => post('/auth/logout', token),
    async disable() {
      write({ user: `203:!${HASH}:case:Case` })
      await control('/users/reload')
    },
    async remove() {
      write({ user: '' })
      await control('/users/reload')
    },
    async password() {
      write({ user: `203:${OTHER_HASH}:case:Case` })
      await control('/users/reload')
    },
    kick: (token) => control(`/sessions/kick?id=${claimsOf(token).sid}`),
    async grant() {
      write({ grants: '' })
      await reload()
    },
    async key(token) {
      const [header = ''] = token.split('.')
      const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { kid: string }
      const text = JSON.parse(readFileSync(keys, 'utf8')) as { keys: { kid: string }[] }
      writeFileSync(
        keys,
        JSON.stringify({ ...text, keys: text.keys.filter((one) => one.kid !== kid) }),
      )
      await reload()
    },
  }

  for (const [at, one] of cases.entries()) {
    const { way, cause, tls, ip, via, http2 } = one
    const name = `${way}, ${via}, IPv${ip}${tls ? ', TLS' : ''}${http2 ? ', HTTP/2' : ''}: ${cause}`
    await t.test(name, async (t) => {
      write({ ttl: cause === 'expiry' ? BRIEF : 3600 })
      if (cause === 'key') await site.postern('key', 'add')
      await reload()
      const { access } = await enter('203')
      const channel = `room-${at}`
      if (way !== 'long-poll') site.keepBusy(t, channel)
      const [before, silences] = [site.sockets(), await silencesOf()]
      const heard = await site.listen(way, { tls, ip, via }, access, { http2, channel })
      await until('it is open', async () =>
        way === 'long-poll'
          ? (await site.admitted(access)) > 0
          : heard.parts.reduce((sum, [, bytes]) => sum + bytes, 0) > 100,
      )
      t.ok(heard.live)
      if ((await silencesOf()) > silences) {
        t.comment('the machine kept the cutter from its answer: this one cannot be cut')
        return heard.close()
      }
      const own = [...site.sockets()].filter((socket) => !before.has(socket))
      t.ok(own.length > 0)
      await causes[cause](access)
      const answered = performance.now()
      await delay(BOUND)
      if (way === 'long-poll') await site.publish(channel, 'too late')
      const now = site.sockets()
      t.same(
        own.filter((socket) => now.has(socket)),
        [],
        'no socket of it is left',
      )
      await delay(50)
      // Of a download the client's own kernel still has some.
      const late = heard.parts.filter(([when]) => when > answered + BOUND)
      if (way !== 'download') t.same(late, [])
      heard.close()
    })
  }

  const { body } = await place.operator('/metrics')
  t.ok((await silencesOf()) < cases.length / 4)
  t.notMatch(body, /means="kick"\} [1-9]/)
  t.notMatch(body, /^postern_streams_uncuttable_total\{why="(?!silent)/m)
  t.notMatch(site.nginx.errorLog(), /exited on signal/)
})
