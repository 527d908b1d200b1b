// `postern store`: a consistent copy of the store, taken also while the daemon writes, and how it is restored. A restored
// store does not know what ended since the copy: the command says so, and how to end it again.

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

import { loadConfig } from '../config/load.ts'
import { renameDurably, syncPath } from '../files/replace-file.ts'
import { copyDatabase, inspectStore, whileIdle } from '../store/sqlite/copy.ts'
import { StoreError } from '../store/store.ts'
import { type Command, verb } from './command.ts'
import { type Io, OK, REFUSED, Stop } from './io.ts'

/**
 * Root works in the service's folder as its owner: a link that the service has put there leads root no further than
 * the service gets by itself, and what is made belongs to it.
 */
const asOwner = (folder: string, work: () => void): void => {
  const { uid, gid } = statSync(folder)
  const groups = process.getgroups?.() as number[]
  const isRoot = process.geteuid?.() === 0
  if (isRoot) {
    process.setgroups?.([gid])
    process.setegid?.(gid)
    process.seteuid?.(uid)
  }
  try {
    work()
  } finally {
    if (isRoot) {
      process.seteuid?.(0)
      process.setegid?.(0)
      process.setgroups?.(groups)
    }
  }
}

/** What is open already, to a file that is not there yet. */
const copyTo = (file: string, from: number): void => {
  const to = openSync(file, 'wx', 0o600)
  const chunk = Buffer.allocUnsafe(1 << 20)
  for (let read = readSync(from, chunk); read > 0; read = readSync(from, chunk)) {
    writeFileSync(to, chunk.subarray(0, read))
  }
  closeSync(to)
}

const backup = (store: string, file: string, io: Io): number => {
  if (existsSync(file)) throw new Stop(REFUSED, `${file} is there already: name a new file`)
  process.umask(0o077) // names, addresses and hashes of tokens stand in it
  copyDatabase(store, file)
  syncPath(dirname(file))
  io.out(
    `${file}: whole; live sessions: ${inspectStore(file).sessions}. The keys are not in it: back up keys.json too`,
  )
  return OK
}

const restore = (store: string, file: string, io: Io): number => {
  const { sessions } = inspectStore(file) // throws where the backup is damaged: nothing is touched then
  const aside = `${store}.before-restore`
  const own = mkdtempSync(join(tmpdir(), 'postern-restore-'))
  using undo = new DisposableStack()
  undo.defer(() => {
    rmSync(own, { recursive: true })
  })
  copyDatabase(file, join(own, 'store.db'))
  const whole = openSync(join(own, 'store.db'), 'r')
  undo.defer(() => {
    closeSync(whole)
  })
  const put = (): void => {
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
  asOwner(dirname(store), () => {
    whileIdle(store, put)
  })
  io.out(`${store}: restored; live sessions: ${sessions}. The old one is ${aside}`)
  io.err(
    'Logouts, bans and rotations since the backup are undone: sessions that ended live again, and',
  )
  io.err('refresh tokens traded in since count as stolen. Start the daemon, then run')
  io.err('  postern session end --all')
  io.err('which ends every session and refuses every token that was issued before.')
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

export const store: Command = {
  name: 'store',
  summary: 'back the store up while it runs, restore it',
  notes: ['the daemon must be stopped before a restore'],
  verbs: {
    backup: verb({
      operands: ['FILE'],
      options: { config: '[FILE]' },
      run: ({ operands: [to], file }, io) => backup(storeFile(file, 'back up'), to, io),
    }),
    restore: verb({
      operands: ['FILE'],
      options: { config: '[FILE]' },
      run({ operands: [from], file }, io) {
        try {
          return restore(storeFile(file, 'restore'), from, io)
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
}
