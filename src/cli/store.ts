// `postern store`: a consistent copy of the store, taken also while the daemon writes, and how it is restored. A restored
// store does not know what ended since the copy: a restore ends all of it.

import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { type Clock, systemClock } from '../clock.ts'
import { loadConfig } from '../config/load.ts'
import { asOwner } from '../files/owner.ts'
import { renameDurably } from '../files/replace-file.ts'
import {
  copyDatabase,
  endSessionsIn,
  readLive,
  readMachineKeys,
  inspectStore,
  whileIdle,
} from '../store/sqlite/copy.ts'
import { type Session, StoreError } from '../store/store.ts'
import { type Command, verb } from './command.ts'
import { type Io, OK, REFUSED, Stop } from './io.ts'
import { timeText } from './table.ts'

/** What is open already, to a file that is not there yet. */
const copyTo = (file: string, from: number): void => {
  const to = openSync(file, 'wx', 0o600)
  const chunk = Buffer.allocUnsafe(1 << 20)
  for (let read = readSync(from, chunk); read > 0; read = readSync(from, chunk)) {
    writeFileSync(to, chunk.subarray(0, read))
  }
  closeSync(to)
}

/**
 * A copy of a store, and what `look` sees in it or makes of it; open, and without a name by then. `beside`: the folder
 * for it, which whoever works here can write.
 */
const openCopy = <Seen>(from: string, beside: string, look: (copy: string) => Seen) => {
  statSync(from) // so that what is not there is what is named
  const own = mkdtempSync(join(beside, 'postern-copy-'))
  try {
    const copy = join(own, 'store.db')
    copyDatabase(from, copy)
    return { seen: look(copy), whole: openSync(copy, 'r') }
  } finally {
    rmSync(own, { recursive: true })
  }
}

const backup = async (store: string, file: string, io: Io): Promise<number> => {
  if (existsSync(file)) throw new Stop(REFUSED, `${file} is there already: name a new file`)
  process.umask(0o077) // names, addresses and hashes of tokens stand in it
  const { seen, whole } = await asOwner(store, () => openCopy(store, dirname(store), inspectStore))
  const draft = `${file}.part`
  try {
    copyTo(draft, whole)
    renameDurably(draft, file)
  } finally {
    closeSync(whole)
    rmSync(draft, { force: true })
  }
  io.out(
    `${file}: whole; live sessions: ${seen.sessions}. The keys are not in it: back up keys.json too`,
  )
  return OK
}

/** Of a store that cannot be read: nothing, so that all of the backup's lives again. */
const orNothing = <Found>(read: () => Found, nothing: Found): Found => {
  try {
    return read()
  } catch {
    return nothing
  }
}

interface Live {
  readonly sessions: readonly Session[]
  readonly machineKeys: ReadonlyMap<string, string>
}

/** What ended since the backup does not stand in it, and lives again. */
const tellRevived = (live: Live, store: string, now: number, io: Io): void => {
  const known = new Set(orNothing(() => readLive(store, now), []).map(({ sid }) => sid))
  const revived = live.sessions.filter(({ sid }) => !known.has(sid))
  io.err(`Sessions that live again by this restore: ${revived.length}`)
  for (const { sid, username, createdAt, address } of revived) {
    io.err(`  ${username}  ${sid}  since ${timeText(createdAt)}  ${address}`)
  }
  const standing = orNothing(() => readMachineKeys(store, now), new Map())
  const keys = [...live.machineKeys].filter(([id]) => !standing.has(id))
  for (const [id, name] of keys) io.err(`  machine key ${name}  ${id}: remove it if it was removed`)
  io.err('Refresh tokens traded in since the backup count as stolen, and access tokens of later')
  io.err('logins live until they expire. `postern session end --all` ends all of it.')
}

const restore = async (
  store: string,
  file: string,
  { keep, now }: { keep: boolean; now: number },
  io: Io,
): Promise<number> => {
  const { sessions } = inspectStore(file) // throws where the backup is damaged: nothing is touched then
  const aside = `${store}.before-restore`
  const { seen: live, whole } = openCopy(file, tmpdir(), (copy) => {
    const machineKeys = readMachineKeys(copy, now)
    if (!keep) endSessionsIn(copy, now)
    return { sessions: readLive(copy, now), machineKeys }
  })
  using undo = new DisposableStack()
  undo.defer(() => {
    closeSync(whole)
  })
  const put = (): void => {
    if (keep) tellRevived(live, store, now, io)
    const draft = `${store}.restored`
    rmSync(draft, { force: true })
    copyTo(draft, whole)
    // With its log: after kill -9 the newest sessions stand there alone.
    for (const part of ['', '-wal']) {
      rmSync(`${aside}${part}`, { force: true })
      if (existsSync(`${store}${part}`)) renameSync(`${store}${part}`, `${aside}${part}`)
    }
    rmSync(`${store}-shm`, { force: true })
    renameDurably(draft, store)
  }
  await asOwner(store, () => {
    whileIdle(store, put)
  })
  const what = keep ? `live sessions: ${sessions}` : `sessions ended: ${sessions}`
  io.out(`${store}: restored; ${what}. The old one is ${aside}`)
  if (keep) return OK
  io.err('Everybody logs in again: what ended since the backup is unknown to it.')
  const names = [...new Set(live.machineKeys.values())].join(', ')
  if (names !== '') io.err(`Its machine keys count no more: add them anew (${names}).`)
  return OK
}

/** The store's file; a shared store is backed up by its own means. */
const storeFile = (file: string, verb: string): string => {
  const { store, state } = loadConfig(file)
  if (store.url === '') return join(state.directory, 'store.db')
  throw new Stop(
    REFUSED,
    `sessions are in the shared store (store.url): ${verb} its Redis with Redis's own tools`,
  )
}

export const createStoreCommand = (clock: Pick<Clock, 'now'>): Command => ({
  name: 'store',
  summary: 'back the store up while it runs, restore it',
  notes: [
    'the daemon must be stopped before a restore, which ends every session;',
    '--keep-sessions keeps them, also those that ended since the backup',
  ],
  verbs: {
    backup: verb({
      operands: ['FILE'],
      options: { config: '[FILE]' },
      run: ({ operands: [to], file }, io) => backup(storeFile(file, 'back up'), to, io),
    }),
    restore: verb({
      operands: ['FILE'],
      options: { 'keep-sessions': true, config: '[FILE]' },
      async run({ operands: [from], values, file }, io) {
        const asked = { keep: values['keep-sessions'], now: clock.now() }
        try {
          return await restore(storeFile(file, 'restore'), from, asked, io)
        } catch (error) {
          if (!(error instanceof StoreError && error.code === 'locked')) throw error
          throw new Stop(
            REFUSED,
            'the daemon has the store open: stop it with its sockets, which would start it again (systemctl stop postern.socket postern-metrics.socket postern.service), and run this again',
          )
        }
      },
    }),
  },
})

export const store = createStoreCommand(systemClock)
