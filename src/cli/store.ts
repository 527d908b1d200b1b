// `postern store`: a copy of the store that is whole, also while the daemon writes, and its way back. A restored
// store knows nothing of what ended since: the command says so, and how that door is closed.

import { chmodSync, chownSync, existsSync, renameSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'

import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { renameDurably, syncPath } from '../files/replace-file.ts'
import { copyDatabase, inspectStore, whileIdle } from '../store/sqlite/copy.ts'
import { StoreError } from '../store/store.ts'
import { BAD_CONFIG, type Command, type Io, IO_FAILED, OK, REFUSED, USAGE } from './io.ts'

/** Root makes files for the service's user: they go to whoever owns the directory. */
const giveToOwner = (file: string): void => {
  const { uid, gid } = statSync(dirname(file))
  chmodSync(file, 0o600)
  chownSync(file, uid, gid)
}

const backup = (store: string, file: string, io: Io): number => {
  if (existsSync(file)) {
    io.err(`postern store: ${file} is there already: name a new file`)
    return REFUSED
  }
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
  whileIdle(store, () => {
    const draft = `${store}.restored`
    rmSync(draft, { force: true })
    copyDatabase(file, draft)
    giveToOwner(draft)
    // With its log: after kill -9 the newest sessions stand there alone.
    for (const part of ['', '-wal']) {
      rmSync(`${aside}${part}`, { force: true })
      if (existsSync(`${store}${part}`)) renameSync(`${store}${part}`, `${aside}${part}`)
    }
    rmSync(`${store}-shm`, { force: true })
    renameDurably(draft, store)
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

export const store: Command = {
  name: 'store',
  summary: 'back the store up while it runs, restore it',
  usage: [
    'postern store backup FILE [--config FILE]',
    '       postern store restore FILE [--config FILE]   (the daemon must be stopped)',
  ].join('\n'),
  async run(argv, io) {
    const wrong = (problem: string): number => {
      io.err(`postern store: ${problem}`)
      io.err(`usage: ${store.usage}`)
      return USAGE
    }
    let parsed
    try {
      const options = { config: { type: 'string' } } as const
      parsed = parseArgs({ args: [...argv], options, allowPositionals: true })
    } catch {
      return wrong('an option is unknown, or lacks its value')
    }
    const [verb, file, more] = parsed.positionals
    if (verb !== 'backup' && verb !== 'restore') return wrong('backup or restore?')
    if (file === undefined || more !== undefined) return wrong('one file is needed')
    try {
      const config = loadConfig(parsed.values.config ?? CONFIG_FILE)
      if (config.store.url !== '') {
        io.err(
          `postern store: sessions are in the shared store (store.url): ${verb} its Redis by Redis' own means`,
        )
        return REFUSED
      }
      const path = join(config.stateDirectory, 'store.db')
      return verb === 'backup' ? backup(path, file, io) : restore(path, file, io)
    } catch (error) {
      if (error instanceof ConfigError) {
        for (const problem of error.problems) io.err(problem)
        return BAD_CONFIG
      }
      /* c8 ignore next: a fault is main's to tell */
      if (!(error instanceof StoreError)) throw error
      if (error.code === 'locked') {
        io.err(
          'postern store: the daemon has the store open: stop it with its sockets, which would start it again (systemctl stop postern.socket postern-metrics.socket postern.service), and say this once more',
        )
        return REFUSED
      }
      io.err(`postern store: ${error.message}`)
      return IO_FAILED
    }
  },
}
