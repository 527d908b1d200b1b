// Crash and race, the short version: hosts and Redis are killed at random under load, and every promise that
// was made by then is looked for afterwards (checker.ts says which). script/crash runs the long one.

import t from 'tap'

import { NEEDS_REDIS } from '../fixtures/redis.ts'
import { explain } from './checker.ts'
import type { StoreKind } from './hosts.ts'
import { runCrashes } from './run.ts'

const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)
const LIMIT = 900_000 // milliseconds: a minute or two where a machine has eight times its load

/** What a run must have seen, or it proves nothing. */
const SEEN: Readonly<Record<string, number>> = {
  sessions: 24,
  'login yes': 24,
  'logout yes': 2,
  'refresh yes': 50,
  'check yes': 20,
  'tokens traded in more than once': 10,
  'checks refused after the end': 10,
}

const crash = (store: StoreKind, kills: number, options: { skip?: string | boolean } = {}): void =>
  void t.test(
    `${store}: ${kills} kills (SEED=${SEED})`,
    { ...options, timeout: LIMIT },
    async (t) => {
      const replay = `script/crash --store ${store} --kills ${kills} --seed ${SEED}`
      t.comment(`${replay} replays the schedule; races are up to the machine`)
      const { violations, counts, journal, took, longestHealing } = await runCrashes(t, {
        store,
        kills,
        seed: SEED,
      })
      const { operations } = journal
      t.same(explain({ violations }, operations), [], `no promise was broken; replay: ${replay}`)
      for (const [what, least] of Object.entries(SEEN)) {
        t.ok((counts[what] ?? 0) >= least, `${what}: ${counts[what] ?? 0}`)
      }
      const broken = operations.filter(({ answer }) => answer === 'broken').length
      t.ok(broken > 0, `${broken} requests were cut off`)
      t.comment(`${operations.length} operations in ${took.toFixed(1)} s`)
      t.comment(`well again within ${longestHealing.toFixed(1)} s after each start`)
    },
  )

crash('sqlite', 12)
crash('redis', 6, NEEDS_REDIS)
