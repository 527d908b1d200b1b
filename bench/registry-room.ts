// How much memory the daemon's list of live subscriptions takes, and how long one look over it: with the real registry,
// its file in memory, and an nginx that is never asked. Needs --expose-gc.

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import { systemClock } from '../src/clock.ts'
import { createRegistry } from '../src/streams/registry.ts'
import { openStreamFile } from '../src/streams/stream-file.ts'

export interface RegistryReport {
  /** Bytes of memory for one. */
  each: number
  /** Seconds of one look over all, five of which happen a second. */
  tick: number
}

const measure = (count: number): RegistryReport => {
  let tick = (): void => undefined
  const folder = mkdtempSync('/dev/shm/postern-room-')
  const file = openStreamFile({
    file: join(folder, 'control.streams'),
    of: 'bench',
    clock: { every: () => () => undefined },
    onFault: () => undefined,
  })
  const registry = createRegistry({
    file,
    kicker: { end: (streams) => streams.map(async () => 'ended'), count: async () => 1 },
    cutter: { end: () => [], look: async () => 'gone' },
    clock: {
      ...systemClock,
      every: (_seconds, act) => {
        tick = act
        return () => undefined
      },
    },
    workers: { asks() {}, foundNobody() {}, mayLinger: () => false, reloadDue: () => false },
    limits: () => ({ perSession: 16, streamsPerSession: 64 }),
    observe: () => undefined,
    onFault: () => undefined,
    onCrowd() {},
    isEnded: () => false,
    stillAllowed: () => true,
  })
  const admit = (from: number, end: number): void => {
    for (let at = from; at < end; at += 3) {
      const sid = randomBytes(16).toString('hex')
      // Texts as they come out of a request: none is shared with another.
      const fresh = (text: string): string => Buffer.from(text).toString('latin1')
      for (const resource of ['users-state', 'active-calls', 'contacts']) {
        registry.admit({
          sid,
          username: fresh(`softphone-${at}`),
          userId: at,
          role: fresh('user'),
          resource: fresh(resource),
          until: systemClock.now() + 3600,
          address: fresh('192.0.2.117'),
          agent: fresh(
            'Linphone-Desktop/5.2.6 (Debian GNU/Linux 12, Qt 5.15.8) LinphoneSDK/5.3.70',
          ),
          exclusive: false,
          worker: fresh('31415'),
          kid: 'k1',
        })
      }
    }
  }
  admit(0, 3000)
  const { gc } = globalThis
  if (gc === undefined) throw new Error('run with --expose-gc')
  gc()
  const before = process.memoryUsage()
  admit(3000, 3000 + count)
  gc()
  const after = process.memoryUsage()
  const looks: number[] = []
  for (let look = 0; look < 20; look++) {
    const startedAt = performance.now()
    tick()
    looks.push((performance.now() - startedAt) / 1000)
  }
  const middle = looks.toSorted((one, two) => one - two)[10] ?? 0
  rmSync(folder, { recursive: true })
  const added = after.heapUsed + after.external - before.heapUsed - before.external
  return { each: added / (registry.count() - 3000), tick: middle }
}

process.stdout.write(JSON.stringify(measure(Number(process.argv[2]))))
process.exit(0)
