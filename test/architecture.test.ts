// The house as law: which room may import which, and where each package lives. Both tables are data; a new
// room or package is a line here, and a reason in its commit.

import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import t from 'tap'

const ROOT = join(import.meta.dirname, '..')
const SRC = join(ROOT, 'src')

/** Room → rooms it may import (itself always). A file directly in src/ is a room of its own. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'main.ts': ['cli'],
  cli: [
    'auth',
    'doctor',
    'files',
    'http-client.ts',
    'daemon',
    'store',
    'streams',
    'systemd.ts',
    'token-client',
    'calls',
    'config',
    'passwords',
    'users',
    'log.ts',
    'clock.ts',
    'version.ts',
  ],
  'get-auth-token.ts': ['cli', 'clock.ts'],
  doctor: ['files', 'http-client.ts'],
  files: ['clock.ts'],
  'http-client.ts': ['files', 'clock.ts'],
  'token-client': ['files', 'http-client.ts', 'clock.ts'],
  streams: ['clock.ts'],
  daemon: [
    'auth',
    'calls',
    'config',
    'files',
    'http',
    'issuers',
    'passwords',
    'store',
    'streams',
    'users',
    'clock.ts',
    'log-limit.ts',
    'log.ts',
    'metrics.ts',
    'security-log.ts',
    'version.ts',
  ],
  issuers: ['auth', 'config', 'files', 'http-client.ts', 'clock.ts'],
  http: ['auth', 'streams', 'clock.ts'],
  calls: ['clock.ts'],
  auth: ['clock.ts'],
  store: ['files', 'clock.ts'],
  users: ['passwords', 'config', 'files', 'http-client.ts', 'clock.ts'],
  passwords: [],
  config: ['auth', 'calls', 'files', 'store', 'clock.ts'],
  'security-log.ts': ['log.ts'],
  'log-limit.ts': ['clock.ts'],
  'log.ts': ['clock.ts'],
  'metrics.ts': [],
  'systemd.ts': [],
  'clock.ts': [],
  'version.ts': [],
}

/** Rooms of which another sees types only: the rules know the store and the users as ports, a check the live streams. */
const TYPES_ONLY: Readonly<Record<string, readonly string[]>> = {
  auth: ['calls', 'store', 'users'],
  http: ['streams'],
  store: ['streams'],
}

/** Package → the only files that may import it. */
const HOMES: Readonly<Record<string, readonly string[]>> = {
  '@redis/client': ['store/redis/dial.ts'],
  jose: ['auth/token.ts', 'auth/compact.ts'],
  pino: ['log.ts'],
  'prom-client': ['metrics.ts'],
  'smol-toml': ['config/load.ts'],
  valibot: [
    'config/cdr-kinds.ts',
    'config/kinds.ts',
    'config/url-kinds.ts',
    'config/read.ts',
    'config/schema.ts',
    'config/rules.ts',
  ],
  bcryptjs: ['passwords/hash.ts'],
}

/**
 * Who names the real clock; everybody else is handed one. Commands and programs begin here; what waits for a socket, a
 * disk or another process waits in real time whatever a test's clock says.
 */
const REAL_TIME: Readonly<Record<string, string>> = {
  'cli/doctor.ts': 'a program begins here',
  'cli/key.ts': 'a program begins here',
  'cli/machine-key.ts': 'a program begins here',
  'cli/policy.ts': 'a program begins here',
  'cli/serve.ts': 'a program begins here',
  'cli/store.ts': 'a program begins here',
  'get-auth-token.ts': 'a program begins here',
  'config/keys-file.ts': 'says when a key was made; nothing is decided by it',
  'http/drain.ts': 'connections that do not close',
  'log.ts': 'a pipe that nobody reads; a line says when it was written',
  'http-client.ts': 'a server that does not answer',
  'store/redis/link.ts': 'a server that does not answer',
  'store/redis/redis.ts': 'a server that does not answer',
  'store/redis/sentinel.ts': 'servers that do not answer',
  'files/lock-file.ts': 'another process that holds the lock',
}

/** Who may touch what src/clock.ts stands for, and why. */
const BESIDE_THE_CLOCK: Readonly<Record<string, string>> = {
  'clock.ts': 'the home of time and chance',
  'systemd.ts': 'systemd compares with the kernel’s own monotonic clock, in microseconds',
}

/** Who draws random bytes: secrets, and names that must never meet. Nothing is decided by their value. */
const RANDOM_BYTES: Readonly<Record<string, string>> = {
  'auth/act-for.ts': 'what no refresh token hashes to',
  'auth/issue.ts': 'ids of sessions and tokens',
  'auth/keyring.ts': 'keys, and their kid',
  'auth/machine-key.ts': 'machine keys, and their ids',
  'auth/refresh-token.ts': 'refresh tokens, and a nonce',
  'passwords/hash.ts': 'salts',
  'store/redis/journal.ts': 'the epoch of a shard',
  'store/redis/throttle.ts': 'the name of this process among the hosts',
  'calls/cdr.ts': 'the key under which names of recordings are told apart',
  'streams/registry.ts': 'kick ids: whoever knows one can end the stream',
  'users/asterisk-secret.ts': 'the key under which passwords are compared',
  'files/lock-file.ts': 'the name of a draft',
  'files/replace-file.ts': 'the name of a draft',
}

/** Built-in modules that only the edges may touch: the rules wait for nothing. */
const NEVER_IN_AUTH = new Set([
  'node:fs',
  'node:http',
  'node:net',
  'node:child_process',
  'node:worker_threads',
])

const IMPORT =
  /^(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|import\('([^']+)'\)|new URL\('(\.[^']+\.ts)'/gm

interface Import {
  file: string
  target: string
  typeOnly: boolean
}

const files = globSync('**/*.ts', { cwd: SRC }).sort()
const room = (file: string): string => file.split('/')[0] ?? file

const imports: Import[] = files.flatMap((file) =>
  Array.from(readFileSync(join(SRC, file), 'utf8').matchAll(IMPORT), (match) => ({
    file,
    target: match[2] ?? match[3] ?? match[4] ?? '',
    typeOnly: match[1] !== undefined,
  })),
)

const inside = imports
  .filter(({ target }) => target.startsWith('.'))
  .map(({ file, target, typeOnly }) => ({
    file,
    typeOnly,
    target: relative(SRC, join(SRC, dirname(file), target)),
  }))
  .filter(({ target }) => !target.startsWith('..'))

void t.test('every import goes inwards', (t) => {
  for (const { file, target, typeOnly } of inside) {
    const from = room(file)
    const to = room(target)
    if (from === to) continue
    const allowed =
      MAY_IMPORT[from]?.includes(to) === true ||
      (typeOnly && TYPES_ONLY[from]?.includes(to) === true)
    t.ok(allowed, `${file} may import ${target}`)
  }
  t.end()
})

void t.test('no two rooms import each other, not even types', (t) => {
  const reaches = (from: string): readonly string[] => [
    ...(MAY_IMPORT[from] ?? []),
    ...(TYPES_ONLY[from] ?? []),
  ]
  for (const from of Object.keys(MAY_IMPORT)) {
    for (const to of reaches(from)) t.notOk(reaches(to).includes(from), `${from} and ${to}`)
  }
  t.end()
})

void t.test('the tables name what is there, and all of it', (t) => {
  t.same([...new Set(files.map(room))].sort(), Object.keys(MAY_IMPORT).sort(), 'rooms')
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
    optionalDependencies: Record<string, string>
  }
  const { dependencies, optionalDependencies } = manifest
  const packages = Object.keys({ ...dependencies, ...optionalDependencies }).filter(
    (name) => !name.startsWith('node-linux-'), // the runtime itself: nobody imports it
  )
  t.same(Object.keys(HOMES).sort(), packages.sort(), 'packages')
  t.end()
})

void t.test('each package has one home', (t) => {
  for (const { file, target } of imports) {
    if (target.startsWith('.') || target.startsWith('node:')) continue
    t.ok(HOMES[target]?.includes(file), `${file} may import ${target}`)
  }
  t.end()
})

/** Comments may name what code may not. */
const codeOf = (file: string): string =>
  readFileSync(join(SRC, file), 'utf8').replaceAll(/^\s*(?:\/\/|\/?\*).*$|\s\/\/ .*$/gm, '')

void t.test('outgoing requests have one home, but for nginx on its kept connections', (t) => {
  const asking = files.filter((file) =>
    /^import \{[^}]*\brequest\b[^}]*\} from 'node:https?'/m.test(
      readFileSync(join(SRC, file), 'utf8'),
    ),
  )
  t.same(asking, ['http-client.ts', 'streams/kicker.ts'], 'take sendRequest of http-client.ts')
  t.end()
})

void t.test(
  'an adapter of the store is named by whoever opens or copies it, and nobody else',
  (t) => {
    const openers = ['cli/doctor.ts', 'cli/store.ts', 'config/kinds.ts', 'daemon/open-state.ts']
    const naming = inside.filter(
      ({ file, target }) => room(file) !== 'store' && /^store\/(?:redis|sqlite)\//.test(target),
    )
    t.same([...new Set(naming.map(({ file }) => file))], openers)
    t.end()
  },
)

void t.test('what must outlast a power cut has one home', (t) => {
  const syncing = files.filter((file) => /\bfsync(?:Sync)?\b/.test(codeOf(file)))
  t.same(syncing, ['files/replace-file.ts'], 'take what files/replace-file.ts offers')
  t.end()
})

void t.test('the rules touch no file, socket or process', (t) => {
  for (const { file, target } of imports.filter((found) => room(found.file) === 'auth')) {
    t.notOk(NEVER_IN_AUTH.has(target), `${file} does without ${target}`)
  }
  t.end()
})

void t.test('time and chance come as arguments, from src/clock.ts', (t) => {
  const found = (pattern: RegExp): string[] => files.filter((file) => pattern.test(codeOf(file)))
  t.same(
    found(
      /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bperformance\b|\bhrtime\b|\bset(?:Timeout|Interval|Immediate)\b|\bAbortSignal\.timeout\b|'node:timers/,
    ),
    Object.keys(BESIDE_THE_CLOCK).toSorted(),
    'take a Clock or a Time as an argument',
  )
  t.same(
    found(/\bsystemClock\b/).filter((file) => file !== 'clock.ts'),
    Object.keys(REAL_TIME).toSorted(),
    'take the clock as an argument, or list why only real time will do',
  )
  t.same(
    found(/\brandom(?:Bytes|UUID|Int|Fill|FillSync)\b|\bgetRandomValues\b/),
    Object.keys(RANDOM_BYTES).toSorted(),
    'what only spreads a delay is chance(): take a Time; a secret or a name is listed',
  )
  t.end()
})

void t.test('only the command line ends the process or prints', (t) => {
  for (const file of files) {
    const text = readFileSync(join(SRC, file), 'utf8')
    if (room(file) !== 'cli' && file !== 'main.ts' && file !== 'get-auth-token.ts') {
      t.notMatch(text, /process\.exit\b|console\.|process\.std(?:out|err)/, file)
    }
  }
  t.end()
})

void t.test('there are no drawers', (t) => {
  for (const file of files) {
    t.notMatch(file, /(^|\/)(utils?|helpers?|common|lib|core|misc|index)(\.ts|\/)/, file)
  }
  t.end()
})

void t.test('every source file has a test of its name', (t) => {
  // Types alone, and entries of five lines that run where coverage cannot look (a thread, the process).
  const without = new Set([
    'http/dialect.ts',
    'calls/call-source.ts',
    'users/source.ts',
    'cli/io.ts',
    'store/machine-key.ts',
    'store/shared-store.ts',
    'store/store.ts',
    'version.ts',
    'streams/stream-ender.ts',
    'streams/subscription.ts',
  ])
  // What has no life of its own is tested through what it is a part of.
  const through: Readonly<Record<string, string>> = {
    'auth/pattern.ts': 'auth/grants.test.ts',
    'calls/cdr-table.ts': 'calls/cdr-reader.test.ts',
    'config/cdr-kinds.ts': 'config/kinds.test.ts',
    'config/retired.ts': 'config/load.test.ts',
    'config/url-kinds.ts': 'config/kinds.test.ts',
    'http/admission.ts': 'http/check.test.ts',
    'http/resource.ts': 'http/check.test.ts',
    'store/verbs.ts': 'store/observed.test.ts',
    'store/redis/journal.ts': 'store/redis/feed.test.ts',
    'store/redis/sessions.ts': 'store/redis/redis.test.ts',
    'store/redis/streams.ts': 'store/redis/redis.test.ts',
    'store/redis/prune.ts': 'store/redis/redis.test.ts',
    'store/redis/families.ts': 'store/redis/redis.test.ts',
    'store/sqlite/families.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/error.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/file.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/counted-time.ts': 'store/sqlite/sqlite.test.ts',
    'store/sqlite/unseen.ts': 'store/sqlite/sqlite.test.ts',
    'store/redis/counted-time.ts': 'store/redis/redis.test.ts',
    'store/sqlite/rows.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/idle.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/tickets.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/verbs.ts': 'store/sqlite/engine.test.ts',
    'store/sqlite/copy.ts': 'cli/store.test.ts',
    'doctor/finding.ts': 'doctor/host.test.ts',
    'doctor/nginx-check.ts': 'doctor/nginx-traps.test.ts',
    'doctor/nginx-exempt.ts': 'doctor/nginx-traps.test.ts',
    'doctor/nginx-neighbours.ts': 'doctor/nginx-traps.test.ts',
    'doctor/nginx-spots.ts': 'doctor/nginx-traps.test.ts',
    'doctor/nginx-streams.ts': 'doctor/nginx-traps.test.ts',
    'doctor/read-nginx.ts': 'cli/doctor.test.ts',
    'streams/endings.ts': 'streams/registry.test.ts',
    'streams/places.ts': 'streams/registry.test.ts',
    'streams/sweep.ts': 'streams/registry.test.ts',
    'streams/kicks.ts': 'streams/registry.test.ts',
    'streams/live-list.ts': 'streams/registry.test.ts',
    'streams/neighbours.ts': 'streams/stream-file.test.ts',
    'streams/stream-lines.ts': 'streams/stream-file.test.ts',
    'streams/unsure.ts': 'streams/registry.test.ts',
    'streams/worker-guess.ts': 'streams/workers.test.ts',
    'users/asterisk-glob.ts': 'users/asterisk-corpus.test.ts',
    'users/asterisk-line.ts': 'users/asterisk-file.test.ts',
    'users/asterisk-section.ts': 'users/asterisk-file.test.ts',
    'users/asterisk-wizard.ts': 'users/asterisk-corpus.test.ts',
    'users/asterisk-endpoints.ts': 'users/asterisk-accounts.test.ts',
    'daemon/follow-users.ts': 'daemon/start.test.ts',
    'auth/act-for.ts': 'http/softphone/ticket-by-key.test.ts',
    'daemon/machine-key-operations.ts': 'cli/machine-key.test.ts',
    'daemon/listeners.ts': 'daemon/start.test.ts',
    'daemon/observe.ts': 'daemon/start.test.ts',
    'daemon/open-state.ts': 'daemon/start.test.ts',
    'daemon/sharing.ts': 'daemon/peers.test.ts',
    'daemon/readiness.ts': 'daemon/start.test.ts',
  }
  for (const file of files) {
    if (without.has(file) || file.endsWith('-worker.ts')) continue
    const test = through[file] ?? file.replace(/\.ts$/, '.test.ts')
    t.ok(existsSync(join(ROOT, 'test', test)), `test for ${file}`)
  }
  t.end()
})
