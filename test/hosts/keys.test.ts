// F36, F37 and F38: the keys of two hosts are two files, and the operator carries them across.

import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'

import { patiently } from '../fixtures/postern.ts'
import { type Host, IN_MEMORY, openHosts, PATIENT } from './bed.ts'
import { createAsker } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

const CHECKS = 10_000
const STEPS = 5
const AT_ONCE = 16

const keysOf = (host: Host): string => host.place.at('state', 'keys.json')

/** What README tells the operator to do: copy the file, with its mode, and reload. */
const carry = async (from: Host, to: Host): Promise<void> => {
  const draft = `${keysOf(to)}.new`
  writeFileSync(draft, readFileSync(keysOf(from)), { mode: 0o600 })
  renameSync(draft, keysOf(to))
  await to.reload()
}

const command = async (t: Test, host: Host, ...argv: string[]): Promise<string> => {
  const { code, out, err } = await host.postern('key', ...argv)
  t.equal(code, 0, `key ${argv.join(' ')}: ${err}`)
  return out.split(' ')[0] ?? ''
}

const kidOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()) as { kid: string })
    .kid

void t.test(
  'F36: a key is rotated over two hosts, and no valid token is refused',
  NEEDS_HOSTS,
  async (t) => {
    const { hosts } = await openHosts(t, ['a', 'b'], PATIENT, IN_MEMORY)
    const [a, b] = hosts
    const asks = hosts.map(({ socket }) => createAsker(t, socket))
    const refused: string[] = []
    const tokens: string[] = []
    let asked = 0
    const enter = async (): Promise<void> => {
      for (const host of hosts) tokens.push((await host.login()).access)
    }
    /** A share of the checks, every token at every host, while something happens. */
    const load = async (meanwhile: () => Promise<unknown>): Promise<void> => {
      const until = asked + CHECKS / STEPS
      const client = async (): Promise<void> => {
        while (asked < until) {
          const turn = asked++
          const token = tokens[Math.floor(turn / 2) % tokens.length] ?? ''
          const answer = await asks[turn % 2]?.(token)
          if (answer?.status !== 204) refused.push(`${turn}: ${answer?.status} ${answer?.reason}`)
        }
      }
      const busy = Array.from({ length: AT_ONCE }, client)
      await meanwhile()
      await enter() // and what is issued now
      await Promise.all(busy)
    }
    await enter()
    let added = ''
    await load(async () => {
      added = await command(t, a, 'add', '--standby')
    })
    t.equal(kidOf((await a.login()).access), 'first', 'it does not sign yet')
    await load(() => carry(a, b))
    await load(() => command(t, a, 'retire', 'first'))
    const fresh = await a.login()
    t.equal(kidOf(fresh.access), added, 'A signs with the new one, and B does not yet')
    t.equal(kidOf((await b.login()).access), 'first')
    t.equal(await b.check(fresh.access), '204')
    tokens.push(fresh.access)
    await load(() => carry(a, b))
    await load(async () => {
      t.equal(kidOf((await b.login()).access), added)
    })
    t.ok(asked >= CHECKS, `${asked} checks`)
    t.same(refused, [])
    // The end of it, once the last token of the old one is gone; here at once.
    await command(t, a, 'remove', 'first', '--yes')
    await carry(a, b)
    for (const host of hosts) {
      t.equal(await host.check(tokens[0] ?? ''), '401 unknown_key')
      t.equal(await host.check(fresh.access), '204')
    }
  },
)

void t.test(
  'F37: in the wrong order the other host refuses, says why, and breaks nowhere',
  NEEDS_HOSTS,
  async (t) => {
    const { hosts } = await openHosts(t, ['a', 'b'], PATIENT, IN_MEMORY)
    const [a, b] = hosts
    const old = await a.login()
    await command(t, a, 'add') // signs at once, and B has never heard of it
    await command(t, a, 'retire', 'first')
    const { access, refresh } = await a.login()
    const counted = () =>
      b.metric('postern_decisions_total{action="read",result="refused",reason="unknown_key"}')
    const before = await counted()
    for (let round = 0; round < 20; round++) t.equal(await b.check(access), '401 unknown_key')
    t.equal((await counted()) - before, 20, 'counted')
    t.equal(
      (await patiently(() => b.refresh(refresh))).status,
      200,
      'a session is found by its hash, whatever signed',
    )
    t.equal(await a.check(access), '204')
    t.equal(await b.check(old.access), '204', 'what the old key signed counts everywhere')
    t.equal(await b.metric('postern_faults_total{kind="internal"}'), 0)
    await carry(a, b)
    t.equal(await b.check(access), '204', 'and no session was lost')
  },
)

void t.test(
  'F38: an emergency removal ends tokens at once, and no session',
  NEEDS_HOSTS,
  async (t) => {
    const { hosts } = await openHosts(t, ['a', 'b'], PATIENT, IN_MEMORY)
    const [a, b] = hosts
    const [soft, mikopbx] = [await a.login(), await b.enter()]
    await command(t, a, 'add')
    await command(t, a, 'remove', 'first', '--yes')
    t.equal(await a.check(soft.access), '401 unknown_key')
    await carry(a, b)
    for (const host of hosts) {
      t.equal(await host.check(soft.access), '401 unknown_key')
      t.equal(await host.check(mikopbx.access), '401 unknown_key')
    }
    const renewed = await patiently(() => b.refresh(soft.refresh))
    t.equal(renewed.status, 200, 'refresh goes on')
    const { access_token: token } = JSON.parse(renewed.body) as { access_token: string }
    const rotated = await a.rotate(mikopbx.refresh)
    t.equal(rotated.status, 200)
    for (const host of hosts) {
      t.equal(await host.check(token), '204')
      t.equal(await host.check(rotated.access), '204')
    }
  },
)
