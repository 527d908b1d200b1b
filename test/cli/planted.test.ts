// Whoever took the daemon over plants something in the service's folders, and waits for root's next command.

import { spawnSync } from 'node:child_process'
import {
  cpSync,
  globSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { COMMANDS } from '../../src/cli/postern.ts'
import type { Command } from '../../src/cli/command.ts'
import { loadKeys } from '../../src/config/keys-file.ts'
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts'
import { isRoot, needs } from '../fixtures/needs.ts'
import { HASH, PASSWORD } from '../fixtures/postern.ts'
import { runCommand } from './run.ts'

const SERVICE = 65_533

/** Root's configuration, the service's folders, and what is nobody's but root's, where everything stands once more. */
const layOut = async (t: Test) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-p-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const at = (...names: string[]): string => join(folder, ...names)
  spawnSync('chmod', ['755', folder])
  for (const name of ['users', 'state', 'run', 'log'])
    mkdirSync(at('whole', name), { recursive: true, mode: 0o700 })
  writeFileSync(at('whole/users/users'), `201:${HASH}:user:Anna\n`, { mode: 0o600 })
  await loadKeys(at('whole/state'))
  const store = await openSqliteStore(at('whole/state/store.db'))
  await store.close()
  cpSync(at('whole'), at('secret'), { recursive: true })
  writeFileSync(at('secret/file'), 'precious\n', { mode: 0o600 })
  cpSync(at('whole/state/store.db'), at('backup.db'))
  writeFileSync(
    at('postern.toml'),
    `[listen]
http = "unix:${at('service/run/http.sock')}"
operator = "unix:${at('service/run/op.sock')}"
control = "${at('service/run/control.sock')}"
[state]
directory = "${at('service/state')}"
[users]
file = "${at('service/users/users')}"
[log]
security = "${at('service/log/security.log')}"
[passwords]
memory_kib = 7168
passes = 1
`,
  )
  writeFileSync(at('dump'), '# configuration file /etc/nginx/nginx.conf:\nhttp { }\n')
  const asked: string[] = []
  const precious = createServer((socket) => {
    asked.push('somebody')
    socket.destroy()
  }).listen(at('secret/run/control.sock'))
  await once(precious, 'listening')
  t.teardown(() => precious.close())
  return {
    at,
    asked,
    afresh(): void {
      rmSync(at('service'), { recursive: true, force: true })
      rmSync(at('copy.db'), { force: true })
      cpSync(at('whole'), at('service'), { recursive: true })
      spawnSync('chown', ['-R', `${SERVICE}:${SERVICE}`, at('service')])
    },
    /** Names, contents and what an inode says of all that is root's. */
    seen: () =>
      globSync('**', { cwd: at('secret') })
        .toSorted()
        .map((name) => {
          const found = lstatSync(at('secret', name))
          const { uid, gid, mode, size, mtimeMs } = found
          const text = found.isFile() ? readFileSync(at('secret', name), 'latin1') : ''
          return { name, uid, gid, mode, ...(found.isFile() && { size, mtimeMs }), text }
        }),
  }
}

type Laid = Awaited<ReturnType<typeof layOut>>

const PLANTS: Readonly<Record<string, (place: Laid, path: string) => void>> = {
  link: ({ at }, path) => symlinkSync(at('secret/file'), path),
  'link to nothing': ({ at }, path) => symlinkSync(at('secret/nothing'), path),
  'link to its like': ({ at }, path) =>
    symlinkSync(path.replace(at('service'), at('secret')), path),
  'hard link': ({ at }, path) => linkSync(at('secret/file'), path),
  FIFO: (_, path) => void spawnSync('mkfifo', ['-m', '600', path]),
}

const USERS = 'users/users'
const KEYS = 'state/keys.json'
const STORE = 'state/store.db'
const CONTROL = 'run/control.sock'
const LOOKED_AT = [USERS, KEYS, STORE, 'log/security.log', 'run/http.sock']

/** What each of root's commands touches in the service's folders. */
const TOUCHED: readonly (readonly [argv: string, paths: readonly string[]])[] = [
  ['user add 202 --password-stdin', [USERS, CONTROL]],
  ['user list', [USERS]],
  ['user disable 201', [USERS]],
  ['policy explain --user 201 --action read --resource a', [USERS, CONTROL]],
  ['key list', [KEYS]],
  ['key add', [KEYS, CONTROL]],
  ['store backup COPY', [STORE, `${STORE}-wal`, `${STORE}-shm`]],
  [
    'store restore BACKUP',
    ['', '-wal', '-shm', '.lock', '.restored', '.before-restore'].map((end) => STORE + end),
  ],
  ['store restore BACKUP --keep-sessions', [STORE]],
  ['session list', [CONTROL]],
  ['reload', [CONTROL]],
  ['token inspect', [CONTROL]],
  ['check-config', LOOKED_AT],
  ['doctor --nginx DUMP', [...LOOKED_AT, CONTROL]],
]

const runIn = ({ at }: Laid, line: string) => {
  const names: Readonly<Record<string, string>> = {
    COPY: 'copy.db',
    BACKUP: 'backup.db',
    DUMP: 'dump',
  }
  const [name, ...argv] = line.split(' ').map((word) => (names[word] ? at(names[word]) : word))
  const command = COMMANDS.find((one) => one.name === name) as Command
  const config = name === 'check-config' ? [] : ['--config']
  return runCommand(command, [...argv, ...config, at('postern.toml')], PASSWORD)
}

const nobodyElse = needs(isRoot, 'only root can become the owner')

void t.test(
  'what is planted leads root nowhere, and holds it up nowhere',
  nobodyElse,
  async (t) => {
    const place = await layOut(t)
    const { at, afresh, seen, asked } = place
    const whole = seen()
    const umask = process.umask()
    for (const [line, paths] of TOUCHED) {
      afresh()
      const { status, err } = await runIn(place, line)
      t.notMatch(err, /EACCES|EPERM/, `${line}: without it all is well (${status})`)
      for (const path of paths) {
        for (const [kind, plant] of Object.entries(PLANTS)) {
          afresh()
          rmSync(at('service', path), { force: true })
          plant(place, at('service', path))
          spawnSync('chown', [
            '-h',
            String(SERVICE),
            ...(kind === 'hard link' ? [] : [at('service', path)]),
          ])
          await runIn(place, line)
          t.same(seen(), whole, `${line}: a ${kind} at ${path}`)
        }
      }
      for (const path of new Set(paths.map((path) => path.split('/')[0] as string))) {
        afresh()
        renameSync(at('service', path), at('service/was'))
        symlinkSync(at('secret', path), at('service', path))
        spawnSync('chown', ['-h', String(SERVICE), at('service', path)])
        await runIn(place, line)
        t.same(seen(), whole, `${line}: a link where ${path} was`)
      }
    }
    process.umask(umask)
    t.same(asked, [], 'no socket of root’s was spoken to')
    t.same([process.geteuid?.(), process.getegid?.()], [0, 0])
  },
)

void t.test('a lock that is none holds root up for five seconds', nobodyElse, async (t) => {
  const place = await layOut(t)
  place.afresh()
  PLANTS['FIFO']?.(place, place.at('service', `${KEYS}.lock`))
  t.match(await runIn(place, 'key add'), { status: 74, err: /another process holds/ })
})

void t.test('a configuration of the service’s is its word, not root’s', nobodyElse, async (t) => {
  const place = await layOut(t)
  const { at, afresh, seen } = place
  const whole = seen()
  afresh()
  const text = readFileSync(at('postern.toml'), 'utf8').replaceAll(at('service'), at('secret'))
  for (const file of [at('service/postern.toml'), at('postern.toml')]) {
    writeFileSync(file, text)
    spawnSync('chown', [String(SERVICE), file])
    for (const line of ['user disable 201', 'key add', `store restore ${at('backup.db')}`]) {
      const [name, ...argv] = [...line.split(' '), '--config', file]
      const command = COMMANDS.find((one) => one.name === name) as Command
      t.not((await runCommand(command, argv)).status, 0, `${line} by ${file}`)
    }
  }
  t.same(seen(), whole)
})
