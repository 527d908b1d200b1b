// A process of its own that holds a store and does as it is told, one line at a time: what a test must be able
// to kill, starve or cut off from its disk. It reports an act only after the store has acknowledged it.

import { rmSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'

import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts'
import { type Store, StoreError } from '../../src/store/store.ts'
import { NOW } from '../fixtures/clock.ts'
import { hashOf, renewalAt, sessionOf, successor } from './sessions.ts'

const [, , file = '', prefix = 'p'] = process.argv
// Synchronous: a line that the store acknowledged is in the pipe before anything else can happen.
const say = (line: string): void => {
  writeSync(1, `${line}\n`)
}

const complaint = (error: unknown): string =>
  error instanceof StoreError ? `${error.code} ${error.message}` : `fault ${String(error)}`

process.umask(0o077)
const store: Store = await openSqliteStore(file).catch((error: unknown) => {
  say(complaint(error))
  process.exit(1)
})

let count = 0
const login = async (): Promise<string> => {
  const sid = `${prefix}-${++count}`
  await store.openSession(sessionOf(sid), hashOf(`${sid}/0`), 0)
  return sid
}

/** Logins, rotations and every third a logout, without end. */
const storm = async (): Promise<never> => {
  for (;;) {
    const sid = await login()
    say(`login ${sid}`)
    for (let step = 0; step < 3; step++) {
      await store.rotate(hashOf(`${sid}/${step}`), successor(`${sid}/${step + 1}`), renewalAt(0), 0)
      say(`rotated ${sid} ${step + 1}`)
    }
    if (count % 3 === 0) {
      await store.endSession(sid, 'logout', NOW)
      say(`logout ${sid}`)
    }
  }
}

const ballast = join(dirname(file), 'ballast')
const acts: Record<string, () => unknown> = {
  login,
  ping: () => store.ping(),
  count: () => store.countSessions(NOW),
  storm: () => Promise.all(Array.from({ length: 8 }, storm)),
  /** Takes all the room that is left on the disk, to the last byte. */
  fill() {
    for (let size = 1 << 20; size > 0; size >>= 1) {
      try {
        for (;;) writeFileSync(ballast, Buffer.alloc(size), { flag: 'a' })
      } catch {
        continue
      }
    }
  },
  free: () => rmSync(ballast),
  close: () => store.close(),
}

say('open')
for await (const line of createInterface({ input: process.stdin })) {
  try {
    say(`ok ${String(await acts[line]?.())}`)
  } catch (error) {
    say(complaint(error))
  }
}
