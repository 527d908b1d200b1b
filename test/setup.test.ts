// The set-up's own decisions, each without installing anything: which Node, from where, and what is said where
// something is missing. Fresh machines are for test/fresh.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { basename, dirname, join } from 'node:path'
import t from 'tap'

import { findClosedPort } from './fixtures/canned-server.ts'

const ROOT = join(import.meta.dirname, '..')
const NODE_SH = join(ROOT, 'script', 'node.sh')
const CPU = process.arch
const OTHER = CPU === 'x64' ? 'arm64' : 'x64'
const SHELLS = ['sh', 'bash']

const executable = (file: string, text: string): void => {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  chmodSync(file, 0o755)
}

/** Fills an empty folder with programs: those of the machine by name, and our own instead of others. */
const programs = (
  folder: string,
  names: readonly string[],
  own: Readonly<Record<string, string>>,
): string => {
  for (const name of names) {
    symlinkSync(spawnSync('which', [name], { encoding: 'utf8' }).stdout.trim(), join(folder, name))
  }
  for (const [name, text] of Object.entries(own)) executable(join(folder, name), text)
  return folder
}

void t.test('Node is first in PATH, then the tools, by its own folder', (t) => {
  const source = t.testdir({})
  executable(join(source, 'node_modules', `node-linux-${CPU}`, 'bin', 'node'), '#!/bin/sh\n')
  for (const shell of SHELLS) {
    const script = `. ${NODE_SH}; use_node ${source}; command -v node; echo "$PATH"`
    const { stdout } = spawnSync(shell, ['-eu', '-c', script], { encoding: 'utf8' })
    const [node, path = ''] = stdout.split('\n')
    t.equal(node, `${source}/node_modules/node-linux-${CPU}/bin/node`, shell)
    t.equal(path.split(':')[1], `${source}/node_modules/.bin`)
  }
  t.end()
})

void t.test('without Node the cure is named, and nothing runs', (t) => {
  const folder = t.testdir({ source: {}, odd: {} })
  const source = join(folder, 'source')
  const odd = programs(join(folder, 'odd'), [], { uname: '#!/bin/sh\necho armv7l\n' })
  for (const shell of SHELLS) {
    for (const [path, says] of [
      ['', `Node is not in ${source}/node_modules: run ${source}/script/setup`],
      [`${odd}:`, 'there is no Node for armv7l'],
    ] as const) {
      const script = `. ${NODE_SH}; use_node ${source} || exit 1; echo ran`
      const { status, stdout, stderr } = spawnSync(shell, ['-c', script], {
        encoding: 'utf8',
        env: { PATH: `${path}${process.env['PATH']}` },
      })
      t.match({ status, stdout }, { status: 1, stdout: '' })
      t.match(stderr, says)
    }
  }
  t.end()
})

void t.test('both commands run from anywhere, and by a link', (t) => {
  const folder = t.testdir({})
  for (const [name, says] of [
    ['postern', /^postern \d/],
    ['get-auth-token', /^get-auth-token: /],
  ] as const) {
    const link = join(folder, name)
    symlinkSync(join(ROOT, 'script', name), link)
    const args = name === 'postern' ? ['--version'] : []
    const { stdout, stderr } = spawnSync(link, args, {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: '/usr/bin:/bin' },
    })
    t.match(stdout + stderr, says)
  }
  const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    bin: Record<string, string>
  }
  t.same(bin, { 'get-auth-token': 'script/get-auth-token', postern: 'script/postern' })
  t.end()
})

const npmMissing = (): string | false => {
  if (spawnSync('which', ['npm']).status === 0) return false
  const obstacle = 'npm is not installed: apt-get install --no-install-recommends npm'
  if (process.env['CI'] === 'true') throw new Error(obstacle)
  return obstacle
}

void t.test('Node is fetched alone, for either processor', { skip: npmMissing() }, async (t) => {
  const folder = t.testdir({
    published: {
      package: {
        bin: { node: 'the very bytes\n' },
        'package.json': '{}',
        LICENSE: 'to be passed on\n',
        include: { 'node.h': 'nobody asks for it\n' },
      },
    },
  })
  const tarball = join(folder, 'node.tgz')
  spawnSync('tar', ['-czf', tarball, '-C', join(folder, 'published'), 'package'])
  const bytes = readFileSync(tarball)
  const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`

  const registry = createServer(({ url = '' }, response) => {
    if (url.endsWith('.tgz')) return void response.end(bytes)
    const dist = { tarball: `${address()}/node.tgz`, integrity }
    const name = basename(url)
    const versions = { '24.0.0': { name, version: '24.0.0', dist } }
    response.end(JSON.stringify({ name, versions, 'dist-tags': { latest: '24.0.0' } }))
  }).listen(0, '127.0.0.1')
  await once(registry, 'listening')
  t.teardown(() => registry.close())
  const address = (): string => {
    const at = registry.address()
    return `http://127.0.0.1:${typeof at === 'object' ? at?.port : ''}`
  }

  const fetchNode = async (locked: string, from: string) => {
    const source = t.testdir({
      to: {},
      'package.json': '{}',
      'package-lock.json': JSON.stringify({
        packages: {
          [`node_modules/node-linux-${OTHER}`]: { version: '24.0.0', integrity: locked },
        },
      }),
    })
    const child = spawn('bash', ['-eu', '-c', `. ${NODE_SH}; fetch_node ${OTHER} to`], {
      cwd: source,
      env: {
        ...process.env,
        npm_config_registry: from,
        npm_config_noproxy: '127.0.0.1',
        npm_config_cache: join(source, 'cache'),
      },
    })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
    const [status] = (await once(child, 'close')) as [number]
    return { status, said, file: join(source, 'to', 'bin', 'node'), to: join(source, 'to') }
  }

  const good = await fetchNode(integrity, address())
  t.equal(good.status, 0, good.said)
  t.equal(readFileSync(good.file, 'utf8'), 'the very bytes\n')
  t.same(readdirSync(good.to).sort(), ['LICENSE', 'bin', 'package.json'])

  // The registry vouches for what it sends: only the lock knows better.
  const other = await fetchNode(integrity.replace(/.{4}==$/, 'AAAA=='), address())
  t.equal(other.status, 1)
  t.match(other.said, `node-linux-${OTHER} is not what package-lock.json has the hash of`)
  t.notOk(existsSync(other.file))

  const nobody = await fetchNode(integrity, `http://127.0.0.1:${await findClosedPort()}`)
  t.equal(nobody.status, 1)
  t.match(nobody.said, 'ECONNREFUSED', 'npm says why')
})

void t.test('what npm left out is named', (t) => {
  const folder = (version: string) => ({ 'package.json': JSON.stringify({ version }) })
  const here = { os: ['linux'], cpu: [CPU] }
  const rows: [name: string, locked: object, installed: string | undefined, named: boolean][] = [
    ['there', {}, '1.0.0', false],
    ['absent', {}, undefined, true],
    ['older', {}, '0.9.0', true],
    ['here', { ...here, optional: true }, undefined, true],
    ['here-there', { ...here, optional: true }, '1.0.0', false],
    ['one-word', { os: 'linux', cpu: CPU, optional: true }, undefined, true],
    ['glibc', { ...here, libc: ['glibc'], optional: true }, undefined, true],
    ['musl', { ...here, libc: ['musl'], optional: true }, undefined, false],
    ['other-cpu', { os: ['linux'], cpu: [OTHER], optional: true }, undefined, false],
    ['other-os', { os: ['win32'], cpu: [CPU], optional: true }, undefined, false],
    ['not-here', { os: ['!linux'], optional: true }, undefined, false],
    ['not-windows', { os: ['!win32'], optional: true }, undefined, true],
    // It came with another optional one, of another machine.
    ['part', { optional: true }, undefined, false],
  ]
  const source = t.testdir({
    'package-lock.json': JSON.stringify({
      packages: {
        '': { version: '0.0.0' },
        ...Object.fromEntries(
          rows.map(([name, locked]) => [`node_modules/${name}`, { version: '1.0.0', ...locked }]),
        ),
        'node_modules/there/node_modules/nested': { version: '2.0.0' },
      },
    }),
    node_modules: Object.fromEntries(
      rows.flatMap(([name, , installed]) => (installed ? [[name, folder(installed)]] : [])),
    ),
  })
  const { stdout } = spawnSync(process.execPath, [join(ROOT, 'script', 'left-out.ts')], {
    cwd: source,
    encoding: 'utf8',
  })
  t.same(stdout.trim().split('\n'), [
    ...rows.filter(([, , , named]) => named).map(([name]) => `${name}@1.0.0`),
    'there/node_modules/nested@2.0.0',
  ])
  t.end()
})

void t.test('npm is missed before apt is asked for anything', (t) => {
  const tools = ['bash', 'dirname', 'uname', 'id', 'cat']
  const apt = { 'dpkg-query': '#!/bin/sh\n', 'apt-get': '#!/bin/sh\necho apt ran\n' }
  for (const [own, missing] of [
    [apt, 'node is missing'],
    [{ ...apt, node: '#!/bin/sh\n' }, 'npm is missing'],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(join(ROOT, 'script', 'setup'), {
      encoding: 'utf8',
      env: { PATH: programs(t.testdir({}), tools, own) },
    })
    t.match({ status, stdout }, { status: 1, stdout: '' })
    t.match(stderr, `${missing}: apt-get install --no-install-recommends nodejs npm`)
  }
  t.end()
})

void t.test('a part of the tests is judged without coverage', (t) => {
  // A source of its own, or tap would take its records for those of the run that this one is a part of.
  const folder = t.testdir({
    bin: {},
    script: t.fixture('symlink', join(ROOT, 'script')),
    node_modules: t.fixture('symlink', join(ROOT, 'node_modules')),
    'package-lock.json': readFileSync(join(ROOT, 'node_modules', '.postern-lock'), 'utf8'),
    'package.json': JSON.stringify({ type: 'module', tap: { plugin: ['!@tapjs/typescript'] } }),
    'good.test.ts': `import t from 'tap'\nt.pass('good')\nt.pass('better')\n`,
    'bad.test.ts': `import t from 'tap'\nt.fail('bad')\n`,
  })
  // All that the tests need is there: nothing is installed.
  const bin = programs(join(folder, 'bin'), [], { 'dpkg-query': '#!/bin/sh\necho installed\n' })
  const runOf = (file: string) =>
    spawnSync(join(folder, 'script', 'test'), [file], {
      encoding: 'utf8',
      env: { PATH: `${bin}:${process.env['PATH']}`, HOME: process.env['HOME'] },
    })
  const good = runOf('good.test.ts')
  t.match(good.stdout, /\n2 passed, 0 failed\n$/, good.stderr)
  t.equal(good.status, 0)
  const bad = runOf('bad.test.ts')
  t.match(bad.stdout, /\n0 passed, 1 failed\n$/, bad.stderr)
  t.equal(bad.status, 1)
  t.end()
})
