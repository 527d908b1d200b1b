// A bare Debian with a systemd of its own and a network, as a new server is: made once, then booted in seconds over
// the cached folder. It must show what README's reader meets, so it has nothing of this machine but what it takes to
// reach apt's and npm's servers. It leaves nothing behind but the cache, however it ends.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

import { NODE, type Ran, TREE } from '../fixtures/systemd.ts'

const SOURCE = join(import.meta.dirname, '..', '..')
const MAKE = join(import.meta.dirname, 'make-root.sh')
const NAMESPACE = join(import.meta.dirname, '..', 'fixtures', 'systemd-namespace.sh')
const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'postern-fresh')
const UMASK = 0o022 // of this process's own files: the one that is asked for is the root's

export const RELEASES = ['bookworm', 'trixie'] as const
export type Release = (typeof RELEASES)[number]

/** Whom README's reader is: root, or somebody with sudo. */
export interface Reader {
  user: 'root' | 'admin'
  umask: '022' | '077'
}

export interface FreshRoot {
  /** For systemd-namespace.sh. */
  readonly dir: string
  /** Where what it writes lands: a file of the root is here once it was written. */
  readonly written: string
  /** Runs a shell script in a login of the reader's. */
  run(script: string, stdin?: string): Promise<Ran>
  /** As `run`, before somebody's eyes. */
  show(script: string): Promise<number>
  /** CPU seconds that it took so far. */
  cpu(): number
  stop(): void
}

/** Why no root can be made here, and the cure. */
export const freshMissing = (): string | undefined => {
  if (process.getuid?.() !== 0) return 'fresh roots need root: run script/test as root'
  for (const program of ['debootstrap', 'slirp4netns', 'git']) {
    if (spawnSync('which', [program]).status !== 0) {
      return `${program} is not installed: apt-get install debootstrap slirp4netns git`
    }
  }
  try {
    accessSync('/dev/net/tun', constants.W_OK)
  } catch {
    return '/dev/net/tun cannot be opened: load the tun module, or give the container that device'
  }
  const cgroup2 = / (\S+) cgroup2 rw/.exec(readFileSync('/proc/self/mounts', 'utf8'))
  return cgroup2 === null
    ? 'no cgroup2 is writable: run the tests in a privileged container'
    : undefined
}

// ---- what ends with this process

const ends = new Set<() => void>()
process.on('exit', () => {
  for (const end of [...ends].reverse()) end()
})
for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  process.on(signal, () => process.exit(128 + number))
}

/** The folders of runs that could not end themselves: killed, or the machine went down. */
const sweep = (): void => {
  for (const name of readdirSync(CACHE)) {
    const pid = Number(/^run-(\d+)-/.exec(name)?.[1])
    if (!pid || existsSync(`/proc/${pid}`)) continue
    spawnSync(NAMESPACE, ['stop', join(CACHE, name)])
    rmSync(join(CACHE, name), { recursive: true, force: true })
  }
}

/** A folder that ends with this process, however that ends. */
export const makeFolder = (): { folder: string; remove(): void } => {
  mkdirSync(CACHE, { recursive: true })
  const folder = mkdtempSync(join(CACHE, `run-${process.pid}-`))
  const remove = (): void => {
    if (ends.delete(remove)) rmSync(folder, { recursive: true, force: true })
  }
  ends.add(remove)
  return { folder, remove }
}

// A group of its own: a Ctrl-C reaches this process alone, which then ends the group and waits for nothing in it.
const finish = async (child: ChildProcess): Promise<Ran> => {
  let out = ''
  let err = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => (out += part))
  child.stderr?.setEncoding('utf8').on('data', (part: string) => (err += part))
  const end = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
    } catch {
      // it has ended meanwhile
    }
  }
  ends.add(end)
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
    return { status: code ?? 1, out, err: signal === null ? err : `${err}ended by ${signal}` }
  } finally {
    ends.delete(end)
  }
}

const makeRoot = async (release: Release): Promise<string> => {
  const made = await finish(spawn(MAKE, [CACHE, release], { detached: true }))
  if (made.status !== 0) throw new Error(`no root of ${release} could be made\n${made.err}`)
  return made.out.trim()
}

// ---- what it gets of this machine

const PROXIES = ['http_proxy', 'https_proxy', 'no_proxy'].flatMap((name) => [
  name,
  name.toUpperCase(),
])
const NPM = ['registry', 'proxy', 'https-proxy', 'noproxy']

export const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

/** Files by their paths. npm gets its part by environment too, which sudo passes on. */
const machineSettings = (): Record<string, string> => {
  const exports: [name: string, value: string][] = PROXIES.map((name) => [
    name,
    process.env[name] ?? '',
  ])
  // One `name=value` a line; "null" and the like where nothing is set.
  const npm = execFileSync('npm', ['config', 'get', ...NPM], { cwd: '/', encoding: 'utf8' })
  for (const [, name = '', value = ''] of npm.matchAll(/^(\S+?) ?= ?"?(.*?)"?$/gm)) {
    if (!['', 'null', 'undefined'].includes(value)) {
      exports.push([`npm_config_${name.replaceAll('-', '_')}`, value])
    }
  }
  const set = exports.filter(([, value]) => value !== '')
  return {
    'etc/profile.d/machine.sh': set
      .map(([name, value]) => `export ${name}=${quote(value)}\n`)
      .join(''),
    'etc/sudoers.d/machine': `Defaults env_keep += "${set.map(([name]) => name).join(' ')}"\n`,
  }
}

/** A file that is there when the root boots. Its folders are the root's own, or as root makes them. */
const place = (up: string, path: string): string => {
  mkdirSync(join(up, dirname(path)), { recursive: true, mode: 0o755 })
  return join(up, path)
}

const DEBS = 'var/cache/apt/archives'
const NPM_CACHE = '/opt/npm-cache'

/** What was downloaded is kept for the next root, and nothing else: `cp` of what is not there yet. */
const keepDownloads = (up: string, release: Release, home: string): void => {
  const debs = join(CACHE, `${release}-debs`)
  const packages = join(CACHE, 'npm')
  mkdirSync(debs, { recursive: true })
  mkdirSync(packages, { recursive: true })
  spawnSync('sh', ['-c', 'cp -ln "$0"/*.deb "$1"', join(up, DEBS), debs])
  spawnSync('sh', [
    '-c',
    'cp -rn "$0"/. "$1" && chmod -R a+rX "$1"',
    join(up, home, '.npm/_cacache'),
    packages,
  ])
  // A link made to a file counts as a change of it: what no root used for a month is of the past.
  spawnSync('find', [debs, packages, '-type', 'f', '-ctime', '+30', '-delete'])
}

/** Boots a root and logs its reader in. `files` are there from the beginning: path inside → file here. */
export const bootFresh = async (
  release: Release,
  { user, umask }: Reader,
  files: Record<string, string> = {},
): Promise<FreshRoot> => {
  process.umask(UMASK)
  const { folder: dir, remove } = makeFolder()
  sweep()
  const lower = await makeRoot(release)
  const up = join(dir, 'disk/up')
  const home = user === 'root' ? 'root' : `home/${user}`
  const stop = (): void => {
    if (!ends.delete(stop)) return
    keepDownloads(up, release, home)
    spawnSync(NAMESPACE, ['stop', dir])
    remove()
  }
  ends.add(stop)

  for (const [path, text] of Object.entries(machineSettings())) {
    writeFileSync(place(up, path), text)
  }
  for (const [path, file] of Object.entries(files)) execFileSync('cp', [file, place(up, path)])
  const debs = join(CACHE, `${release}-debs`)
  mkdirSync(join(CACHE, 'npm'), { recursive: true })
  if (existsSync(debs)) {
    execFileSync('cp', ['-lr', `${debs}/.`, place(up, `${DEBS}/.`)])
  }

  const booted = await finish(
    spawn(
      NAMESPACE,
      [
        'over',
        lower,
        dir,
        `${SOURCE}:${TREE}`,
        `${dirname(process.execPath)}:${dirname(NODE)}`,
        `${join(CACHE, 'npm')}:${NPM_CACHE}`,
      ],
      // Not `detached`: it would wait for the machine, which holds its streams.
      { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
    ),
  )
  if (booted.status !== 0) throw new Error(booted.err)

  const argv = (script: string): string[] => [
    'run',
    dir,
    'runuser',
    '-l',
    user,
    '-c',
    `umask ${umask}\n${script}`,
  ]
  const cgroup2 = / (\S+) cgroup2 /.exec(readFileSync('/proc/self/mounts', 'utf8'))?.[1] ?? ''
  const stat = join(cgroup2, `postern-test-${dir.split('/').at(-1)}`, 'cpu.stat')
  const root: FreshRoot = {
    dir,
    written: up,
    run: (script, stdin = '') => {
      const child = spawn(NAMESPACE, argv(script), { detached: true })
      child.stdin.on('error', () => {}) // it need not read what it is told
      child.stdin.end(stdin)
      return finish(child)
    },
    show: async (script) => {
      const child = spawn(NAMESPACE, argv(script), { stdio: 'inherit' })
      const [code] = (await once(child, 'close')) as [number | null]
      return code ?? 1
    },
    cpu: () => Number(/usage_usec (\d+)/.exec(readFileSync(stat, 'utf8'))?.[1]) / 1e6,
    stop,
  }
  await root.run(`mkdir -p ~/.npm && cp -r ${NPM_CACHE} ~/.npm/_cacache`)
  return root
}

/** The committed tree as git gives it to whoever clones it: a bundle, since a folder's owner may not be the reader. */
export const bundleSource = (folder: string): string => {
  const bundle = join(folder, 'postern.bundle')
  const git = ['-c', `safe.directory=${SOURCE}`, '-C', SOURCE]
  execFileSync('git', [...git, 'bundle', 'create', '--quiet', bundle, 'HEAD'])
  return bundle
}
