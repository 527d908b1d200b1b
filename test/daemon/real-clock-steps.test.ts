// A real daemon under libfaketime, whose wall clock steps while the monotonic one goes on: no token is accepted after an
// acknowledged end. Two sequences; more by hand: SEQUENCES=6.
import { existsSync, renameSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { createRandom } from '../crash/random.ts'
import { needs } from '../fixtures/needs.ts'
import {
  check,
  login,
  makePlace,
  type Place,
  post,
  type Run,
  run,
  serve,
  type Tokens,
} from '../fixtures/postern.ts'

const LIBRARY = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketimeMT.so.1`
const NEEDS_FAKETIME = needs(existsSync(LIBRARY), 'faketime (script/setup --test)')
const SEQUENCES = Number(process.env['SEQUENCES'] ?? 2)
const LIMIT = 600_000 // milliseconds
const DAY = 86_400
const STEPS = [1, 30, 150, 900, 7200, DAY, 2 * DAY]
const UPKEEP = 31_000 // milliseconds in which every memory is looked through once

const createFakeClock = (place: Place) => {
  const file = place.at('offset')
  let offset = 0
  const step = (seconds: number): void => {
    offset += seconds
    writeFileSync(`${file}.new`, `${offset < 0 ? '' : '+'}${offset}`)
    renameSync(`${file}.new`, file)
  }
  step(0)
  return {
    step,
    offset: () => offset,
    env: {
      LD_PRELOAD: LIBRARY,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      NO_FAKE_STAT: '1',
    },
  }
}

const tell = async (t: Test, seed: number): Promise<void> => {
  const random = createRandom(seed)
  const place = makePlace(t, {
    softphone: 'access_ttl = 60',
    throttle: 'pair_failures = 1000000\naccount_failures = 1000000\naddress_failures = 1000000',
  })
  const { step, offset, env } = createFakeClock(place)
  let daemon: Run = await serve(t, place, { env })
  const live: Tokens[] = []
  const ended: Tokens[] = []
  const story: unknown[] = []
  let backedUp = false
  let furthest = 0

  const command = async (...argv: string[]): Promise<void> => {
    const { ended, err } = run(t, [...argv, '--config', place.config], { env })
    const { code } = await ended
    if (code !== 0) throw new Error(`postern ${argv.join(' ')}: ${err()}`)
  }
  const stop = async (signal: NodeJS.Signals) => daemon.end(signal)
  const start = async (): Promise<void> => {
    daemon = await serve(t, place, { env })
  }
  const acts = {
    step() {
      step(random.pick(STEPS) * random.pick([1, -1]))
      furthest = Math.max(furthest, offset())
    },
    async login() {
      live.push(await login(place.ask))
    },
    async logout() {
      const tokens = live.shift()
      if (!tokens) return
      t.equal(await post(place, '/auth/logout', tokens.access), 200)
      ended.push(tokens)
    },
    async restart() {
      await stop('SIGTERM')
      await start()
    },
    async kill() {
      await stop('SIGKILL')
      await start()
    },
    async restore() {
      if (!backedUp) {
        await command('store', 'backup', place.at('backup.db'))
        backedUp = true
        return
      }
      // The epoch of a restore is one of the clock: who restores has set it right.
      step(furthest - offset())
      await stop('SIGTERM')
      await command('store', 'restore', place.at('backup.db'))
      await start()
      await command('session', 'end', '--all')
      ended.push(...live.splice(0))
    },
    prune: () => pause(UPKEEP),
  }
  const names = Object.keys(acts) as (keyof typeof acts)[]
  const plan = ['login', 'login', 'logout', ...Array.from({ length: 10 }, () => random.pick(names))]
  // A turn of 31 s is enough once.
  const first = plan.indexOf('prune')
  const turns = plan.filter((name, at) => name !== 'prune' || at === first)
  for (const name of turns as (keyof typeof acts)[]) {
    await acts[name]()
    story.push([name, offset()])
    for (const { access, refresh } of ended) {
      const found = [await check(place, access), await post(place, '/auth/refresh', refresh)]
      if (!String(found[0]).startsWith('401') || found[1] === 200) {
        t.fail('accepted after its end', { seed, story, found })
      }
    }
  }
  t.ok(ended.length > 0, JSON.stringify(story))
}

for (let seed = 1; seed <= SEQUENCES; seed++) {
  void t.test(`sequence ${seed}`, { ...NEEDS_FAKETIME, timeout: LIMIT }, (t) => tell(t, seed))
}

void t.test('the clock was ahead at a start', { ...NEEDS_FAKETIME, timeout: LIMIT }, async (t) => {
  const place = makePlace(t)
  const { step, env } = createFakeClock(place)
  const daemon = await serve(t, place, { env })
  const { access } = await login(place.ask)
  t.equal(await check(place, access), '204')
  t.equal(await post(place, '/auth/logout', access), 200)
  await daemon.end()
  step(7200)
  await serve(t, place, { env })
  t.equal(await check(place, access), '401 expired', 'the daemon goes by that clock')
  step(-7200)
  t.equal(await check(place, access), '401 session_ended')
})
