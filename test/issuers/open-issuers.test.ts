// The trusted issuers of a config: a file must be good from the start, an address may come later, and a reload
// forgets nothing of those that stay.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError } from '../../src/config/config-error.ts'
import { readConfig } from '../../src/config/load.ts'
import { openIssuers } from '../../src/issuers/open-issuers.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { keySet } from '../fixtures/keys.ts'
import { pairOf } from '../fixtures/pairs.ts'

const A = pairOf('EdDSA', 'a')
const B = pairOf('EdDSA', 'b')

const section = (name: string, source: string): string =>
  `[issuers.${name}]\nissuer = "https://${name}"\naudience = "pbx"\n${source}\nrole_claim = "role"\nroles = ["staff=user"]\n`

const setUp = (t: Test) => {
  const folder = t.testdir({})
  const clock = createTestClock()
  const seen: string[] = []
  const problems: string[] = []
  const events = {
    clock,
    observe: (name: string, outcome: object) =>
      void seen.push(`${name} ${'keys' in outcome ? String(outcome.keys) : 'failed'}`),
    onProblem: (problem: string) => void problems.push(problem),
  }
  return {
    clock,
    seen,
    problems,
    at: (name: string): string => join(folder, name),
    write: (name: string, text: string) => {
      writeFileSync(join(folder, name), text, { mode: 0o644 })
    },
    open: (text: string, before?: Awaited<ReturnType<typeof openIssuers>>) =>
      openIssuers(readConfig(text, 'test').config.issuers, events, before),
  }
}

void t.test(
  'a file is read again when it changes; a broken one keeps the last good keys',
  async (t) => {
    const { at, write, open, clock, seen, problems } = setUp(t)
    write('a.json', keySet(A.open))
    const { all } = await open(section('acme', `jwks_file = "${at('a.json')}"`))
    const [issuer] = all
    if (!issuer) throw new Error('no issuer')
    const kids = async (): Promise<string[]> => {
      clock.advance(2)
      issuer.keys.current()
      await issuer.keys.renew()
      return [...(issuer.keys.current() ?? new Map<string, unknown>()).keys()]
    }
    t.match(issuer.terms, { name: 'acme', issuer: 'https://acme', usernameClaim: 'sub' })
    t.same(await kids(), ['a'])
    write('a.json', keySet(B.open))
    t.same(await kids(), ['b'])
    write('a.json', '{')
    t.same(await kids(), ['b'])
    t.same(await kids(), ['b'])
    t.match(problems, [/^issuers\.acme: .*a\.json: is not a JWK Set/], 'said once')
    clock.advance(10 * 86_400)
    t.same(await kids(), ['b'], 'a file is no server that could be away')
    write('a.json', keySet(A.open))
    t.same(await kids(), ['a'])
    t.equal(seen[0], 'acme 1')
    t.ok(seen.includes('acme failed'))
  },
)

void t.test('files that will not do are named, all of them', async (t) => {
  const { at, write, open } = setUp(t)
  write('bad.json', '{}')
  const text =
    section('one', `jwks_file = "${at('bad.json')}"`) +
    section('two', `jwks_file = "${at('none')}"`)
  const error: unknown = await open(text).catch((e: unknown) => e)
  t.type(error, ConfigError)
  t.match((error as ConfigError).problems, [
    /^issuers\.one: .*bad\.json: is not/,
    /^issuers\.two: .*ENOENT/,
  ])
})

void t.test('an address may be away; what is known of it outlives a reload', async (t) => {
  const { open, problems } = setUp(t)
  let asked = 0
  const server = createServer((_, response) => {
    asked++
    response.end(keySet(A.open))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const at = section('acme', `jwks_url = "http://127.0.0.1:${port}/"`)
  const away = section('gone', 'jwks_url = "http://127.0.0.1:1/"')
  const first = await open(at + away)
  for (const { keys } of first.all) await keys.renew()
  t.same(
    first.all.map(({ keys }) => keys.current()?.size),
    [1, undefined],
  )
  t.match(problems, [/^issuers\.gone: http:\/\/127\.0\.0\.1:1\/: gave no complete answer/])
  server.closeAllConnections()
  server.close()
  const second = await open(at.replace('"staff=user"', '"boss=admin"'), first)
  t.equal(second.all.length, 1)
  t.equal(second.all[0]?.keys.current()?.size, 1)
  t.same([...(second.all[0]?.terms.roles ?? [])], [['boss', 'admin']])
  t.equal(asked, 1)
})
