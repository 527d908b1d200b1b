// One run: a site, a crowd and a plan of faults, then an audit, then the judge. What it returns is the verdict
// and what it took; it prints nothing.

import { setTimeout as pause } from 'node:timers/promises'

import { createActions } from './actions.ts'
import { type Fault, planFaults, REDIS } from './chaos.ts'
import { judge, type Verdict } from './checker.ts'
import { createCrowd } from './clients.ts'
import { type Host, openSite, type Owner, type Site, type StoreKind } from './hosts.ts'
import { createJournal, type SavedJournal } from './journal.ts'

export interface RunSettings {
  readonly store: StoreKind
  readonly kills: number
  readonly seed: number
  readonly clients?: number
  onProgress?(killed: number, operations: number): void
}

export interface RunResult extends Verdict {
  readonly journal: SavedJournal
  /** Seconds in all, and the longest from the last start until all were well again. */
  readonly took: number
  readonly longestHealing: number
}

const HEALS_WITHIN = 120 // seconds: a start on a busy machine and 2 s of the store's; the result says how many
const AUDIT_WITHIN = 600
const RESUMED = 20 // answers
const UPON_WITHIN = 500 // milliseconds: where nothing is answered any more, a fault does not wait for it

const waitUntilWell = async (hosts: readonly Host[]): Promise<number> => {
  const startedAt = performance.now()
  const seconds = (): number => (performance.now() - startedAt) / 1000
  for (const host of hosts) {
    while (!(await host.isWell())) {
      if (seconds() > HEALS_WITHIN) {
        throw new Error(`${host.name} is not well ${HEALS_WITHIN} s after the last fault`)
      }
      await pause(20)
    }
  }
  return seconds()
}

/** Starts under way: a host may be killed again before it has come up. */
const createStarts = () => {
  const underWay: Promise<void>[] = []
  const failures: unknown[] = []
  return {
    add(start: Promise<unknown>): void {
      underWay.push(
        start.then(
          () => undefined,
          (error: unknown) => void failures.push(error),
        ),
      )
    },
    async settle(): Promise<void> {
      await Promise.all(underWay.splice(0))
      if (failures.length > 0) throw failures[0]
    },
  }
}

/** Kills, stops and starts as the fault says. Redis runs again when it resolves; hosts may still be starting. */
const inflict = async (
  fault: Fault,
  { hosts, redis }: Site,
  starts: ReturnType<typeof createStarts>,
): Promise<void> => {
  if (redis && fault.stopped > 0) {
    redis.signal('SIGSTOP')
    await pause(fault.stopped * 1000)
    redis.signal('SIGCONT')
    return
  }
  for (const [index, name] of fault.kill.entries()) {
    if (index > 0) await pause(fault.apart * 1000)
    const host = hosts.find((one) => one.name === name)
    if (name === REDIS) await redis?.kill()
    else if (host) {
      await host.kill()
      starts.add(host.start())
    } else throw new Error(`the plan names ${name}, which is not there`)
  }
  if (redis && fault.kill.includes(REDIS)) {
    await pause(fault.gone * 1000)
    await redis.start()
  }
}

export const runCrashes = async (owner: Owner, settings: RunSettings): Promise<RunResult> => {
  const { store, kills, seed, clients = 6, onProgress } = settings
  const startedAt = performance.now()
  const users = Array.from({ length: clients }, (_, index) => `user${index}`)
  const site = await openSite(owner, store, users)
  const { hosts, terms } = site
  const journal = createJournal()
  const actions = createActions(journal)
  const crowd = createCrowd({ seed, users, hosts, actions, grace: terms.grace })
  await waitUntilWell(hosts)
  await crowd.gather()

  const names = hosts.map(({ name }) => name)
  const faults = planFaults({ seed, kills, hosts: names, redis: store === 'redis' })
  const enough = new AbortController()
  const crowded = crowd.run(enough.signal)
  let longestHealing = 0
  let killed = 0
  const starts = createStarts()
  const heal = async (): Promise<void> => {
    await starts.settle()
    longestHealing = Math.max(longestHealing, await waitUntilWell(hosts))
  }
  /** The load goes on: some were answered. On a busy machine the first kill would come before that. */
  const resumed = async (): Promise<void> => {
    const enough = journal.operations.length + RESUMED
    const deadline = performance.now() + HEALS_WITHIN * 1000
    while (journal.operations.length < enough) {
      if (performance.now() > deadline) throw new Error('no client is answered any more')
      await pause(5)
    }
  }
  const breakThings = async (): Promise<void> => {
    let previous: Fault | undefined
    for (const fault of faults) {
      if (enough.signal.aborted) return
      if (previous?.heals !== false) await resumed()
      previous = fault
      await pause(fault.after * 1000)
      if (fault.upon) await Promise.race([journal.nextYes(fault.upon), pause(UPON_WITHIN)])
      await inflict(fault, site, starts)
      killed += fault.kill.length
      if (fault.heals) await heal()
      onProgress?.(killed, journal.operations.length)
    }
    await heal()
  }
  const broken = breakThings()
  try {
    // Whichever fails first: a crowd that stopped would make the rest of the run worth nothing.
    await Promise.race([broken, crowded])
  } finally {
    enough.abort()
    await Promise.allSettled([broken, crowded]) // nothing is started behind whoever cleans up
  }
  await crowded
  await pause(terms.bound * 1000) // from here on no excuse is left for any host
  await crowd.audit(AUDIT_WITHIN)

  const saved = { terms, operations: journal.operations }
  return {
    ...judge(saved.operations, terms),
    journal: saved,
    took: (performance.now() - startedAt) / 1000,
    longestHealing,
  }
}
