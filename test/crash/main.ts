// The long version, for script/crash: prints what it does and the command that replays it, and ends with 1 where
// a promise was broken. A journal is kept only then, or where it is asked for; no token stands in it.

import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { explain, judge, type Verdict } from './checker.ts'
import type { StoreKind } from './hosts.ts'
import { loadJournal, type SavedJournal, saveJournal } from './journal.ts'
import { runCrashes } from './run.ts'

const USAGE = `usage: script/crash [--store sqlite|redis] [--kills N] [--seed N] [--journal FILE]
       script/crash --judge FILE`
const SIGNALS = [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const // whoever stops a long run must not be left with a Redis and its folders
const PROGRESS_EVERY = 10_000 // milliseconds

const finish = ({ violations, counts }: Verdict, { operations }: SavedJournal): number => {
  for (const what of Object.keys(counts).sort()) console.log(`  ${counts[what]}\t${what}`)
  for (const line of explain({ violations }, operations)) console.log(line)
  console.log(`crash: ${operations.length} operations, ${violations.length} violations`)
  return violations.length === 0 ? 0 : 1
}

const run = async (
  store: StoreKind,
  kills: number,
  seed: number,
  file: string | undefined,
): Promise<number> => {
  const replay = `script/crash --store ${store} --kills ${kills} --seed ${seed}`
  console.log(`crash: ${replay} (the seed replays the schedule; races are up to the machine)`)
  const undo: (() => unknown)[] = []
  const cleanUp = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed()) await step()
  }
  for (const [signal, code] of SIGNALS) {
    process.once(signal, () => void cleanUp().finally(() => process.exit(code)))
  }
  let toldAt = performance.now()
  try {
    const result = await runCrashes(
      { teardown: (fn: () => unknown) => void undo.push(fn) },
      {
        store,
        kills,
        seed,
        onProgress(killed, operations) {
          if (performance.now() - toldAt < PROGRESS_EVERY) return
          toldAt = performance.now()
          console.log(`  ${killed} of ${kills} kills, ${operations} operations`)
        },
      },
    )
    const { took, longestHealing, violations, journal } = result
    const code = finish(result, journal)
    console.log(`crash: ${took.toFixed(0)} s, all well again within ${longestHealing.toFixed(1)} s`)
    const keep =
      file ?? (violations.length > 0 ? join(tmpdir(), `postern-crash-${seed}.jsonl`) : '')
    if (keep !== '') {
      saveJournal(keep, journal)
      console.log(`crash: the journal is in ${keep}: script/crash --judge ${keep}`)
    }
    return code
  } catch (error) {
    console.error(`crash: ${error instanceof Error ? error.message : String(error)}`)
    return 1
  } finally {
    await cleanUp()
    console.log(`crash: replay with ${replay}`)
  }
}

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: {
      store: { type: 'string', default: 'sqlite' },
      kills: { type: 'string', default: '' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      journal: { type: 'string' },
      judge: { type: 'string' },
    },
  })
  const { store, journal } = values
  if (values.judge !== undefined) {
    const saved = loadJournal(values.judge)
    return finish(judge(saved.operations, saved.terms), saved)
  }
  const kills = Number(values.kills === '' ? { sqlite: 500, redis: 100 }[store] : values.kills)
  const seed = Number(values.seed)
  const isStore = store === 'sqlite' || store === 'redis'
  if (!isStore || !Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) {
    throw new TypeError(USAGE)
  }
  return run(store, kills, seed, journal)
}

try {
  process.exitCode = await main()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 64
}
