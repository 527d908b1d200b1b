// Where a server listens: a door whose only lock is its file mode, and what is said when it cannot be opened.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, createServer as createNetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { listen, ListenError } from '../../src/http/listen.ts'
import { openWire } from '../fixtures/daemon.ts'
import { AS_NOBODY, isRoot, needs } from '../fixtures/needs.ts'

const folder = mkdtempSync(join(tmpdir(), 'postern-l-')) // short: a unix socket's path ends at 107 bytes
t.teardown(() => {
  rmSync(folder, { recursive: true, force: true })
})
const at = (name: string): string => join(folder, name)
const open = (path: string, mode = 0o600, group = '') => ({ path, mode, group })

const create = (t: Test): Server => {
  const server = createServer((_, response) => {
    response.writeHead(204).end()
  })
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return server
}
const answers = async (to: string | number): Promise<boolean> => {
  const wire = openWire(to)
  wire.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
  const [answer] = await wire.answers(1)
  wire.destroy()
  return answer?.status === 204
}
const refuses = async (t: Test, opening: Promise<void>, message: RegExp): Promise<void> => {
  const error: unknown = await opening.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  t.ok(error instanceof ListenError)
  t.match(error, { name: 'ListenError', message })
}

void t.test('a socket gets its mode, and was closed to others before', async (t) => {
  for (const mode of [0o600, 0o660]) {
    const path = at(`mode-${mode}.sock`)
    const server = create(t)
    const before = process.umask(0o000)
    const opening = listen(server, open(path, mode))
    server.once('listening', () => {
      t.equal(statSync(path).mode & 0o777, 0o600, 'born closed')
    })
    await opening
    t.equal(process.umask(before), 0, 'the umask is as it was')
    t.equal(statSync(path).mode & 0o777, mode)
    t.ok(await answers(path))
  }
})

void t.test('it gets the group that the operator names', async (t) => {
  const group = execFileSync('id', ['-gn'], { encoding: 'utf8' }).trim()
  const path = at('group.sock')
  await listen(create(t), open(path, 0o660, group))
  t.equal(statSync(path).gid, process.getgid?.())
})

void t.test('F41: a group that is not there is said', (t) =>
  refuses(
    t,
    listen(create(t), open(at('no-group.sock'), 0o660, 'nosuchgroup')),
    /^there is no group nosuchgroup: create it, or set listen\.socket_group$/,
  ),
)

void t.test('F41: the socket of a daemon that was killed is taken over', async (t) => {
  const path = at('stale.sock')
  const killed = spawnSync(process.execPath, [
    '-e',
    `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`,
  ])
  t.equal(killed.signal, 'SIGKILL')
  t.ok(existsSync(path))
  await listen(create(t), open(path))
  t.ok(await answers(path))
})

void t.test('F41: a socket on which somebody answers is left alone', async (t) => {
  const path = at('live.sock')
  await listen(create(t), open(path))
  await refuses(
    t,
    listen(create(t), open(path)),
    /live\.sock is in use: .*; stop it, or listen elsewhere$/,
  )
  t.ok(await answers(path))
})

/** A process that runs this, and is ended with the test; resolves when it has said something. */
const runChild = async (t: Test, script: string, fd?: number): Promise<void> => {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit', ...(fd === undefined ? [] : [fd])],
  })
  t.teardown(async () => {
    child.kill('SIGKILL')
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
  if (child.stdout) await once(child.stdout, 'data')
}

void t.test('F41: a socket whose owner is too busy to answer is left alone too', async (t) => {
  const path = at('busy.sock')
  await runChild(
    t,
    `import { createServer } from 'node:net'
    import { writeSync } from 'node:fs'
    createServer().listen({ path: ${JSON.stringify(path)}, backlog: 1 }, () => {
      writeSync(1, 'listening')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    })`,
  )
  const queue = Array.from({ length: 8 }, () => openWire(path)) // more than it has room for
  await refuses(t, listen(create(t), open(path)), /busy\.sock is in use: /)
  for (const wire of queue) wire.destroy()
  t.ok(existsSync(path))
})

void t.test('what is no socket is not removed', async (t) => {
  writeFileSync(at('file'), 'mine')
  symlinkSync(at('nowhere'), at('link'))
  for (const name of ['file', 'link', '']) {
    await refuses(
      t,
      listen(create(t), open(at(name))),
      / is there and is no socket: move it away, or listen elsewhere$/,
    )
  }
  t.ok(existsSync(at('file')))
})

void t.test('a folder that is not there, and a path that is too long', async (t) => {
  await refuses(
    t,
    listen(create(t), open(at('none/x.sock'))),
    /^cannot listen on .*none\/x\.sock: the directory does not exist: create it, owned by/,
  )
  writeFileSync(at('above'), '')
  await refuses(
    t,
    listen(create(t), open(at('above/x.sock'))),
    /^cannot listen on .*above\/x\.sock: the directory does not exist/,
  )
  await refuses(
    t,
    listen(create(t), open(at('x'.repeat(120)))),
    /^cannot listen on .*x: (?!undefined).+/,
  )
})

/** What somebody without any right is told. */
const listenAsNobody = (address: object): string => {
  const source = JSON.stringify(new URL('../../src/http/listen.ts', import.meta.url).href)
  const where = JSON.stringify(address)
  const script = `const { listen } = await import(${source}); const { createServer } = await import('node:http'); await listen(createServer(), ${where}).catch((error) => console.log(error.message)); process.exit(0)`
  const [program, ...nobody] = AS_NOBODY
  return spawnSync(program, [...nobody, process.execPath, '--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: {},
  }).stdout
}

void t.test(
  'a folder that may not be written, by somebody else than root',
  needs(isRoot, 'only root may become somebody else'),
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-g-'))
    t.teardown(() => {
      rmSync(folder, { recursive: true, force: true })
    })
    chmodSync(folder, 0o555)
    const said = listenAsNobody({ path: join(folder, 'x.sock'), mode: 0o660, group: '' })
    t.match(said, /: the service may not listen there/)
  },
)

void t.test('F42: a port, a port in use, an address that is not there', async (t) => {
  const server = create(t)
  await listen(server, { host: '127.0.0.1', port: 0 })
  const { port } = server.address() as AddressInfo
  t.ok(await answers(port))
  await refuses(
    t,
    listen(create(t), { host: '127.0.0.1', port }),
    new RegExp(`^cannot listen on 127\\.0\\.0\\.1:${port}: something else listens there: stop it`),
  )
  await refuses(
    t,
    listen(create(t), { host: '192.0.2.1', port: 0 }),
    /^cannot listen on 192\.0\.2\.1:0: this machine has no such address/,
  )
})

void t.test('a descriptor that systemd opened', async (t) => {
  // A listening socket of ours stands in for systemd's: the other process knows nothing but its number.
  const parent = createNetServer()
  await new Promise<void>((resolve) => parent.listen(0, '127.0.0.1', resolve))
  const { port } = parent.address() as AddressInfo
  const { fd } = (parent as unknown as { _handle: { fd: number } })._handle
  const module = join(import.meta.dirname, '../../src/http/listen.ts')
  await runChild(
    t,
    `import { createServer } from 'node:http'
    import { writeSync } from 'node:fs'
    import { listen } from ${JSON.stringify(module)}
    await listen(createServer((_, response) => response.writeHead(204).end()), { fd: 3 })
    writeSync(1, 'listening')`,
    fd,
  )
  await new Promise((resolve) => parent.close(resolve))
  t.ok(await answers(port))
  await refuses(t, listen(create(t), { fd: 9999 }), /^cannot listen on fd 9999: .+/)
})

void t.test(
  'a group that the service is not in is named with its cure',
  needs(isRoot, 'only root may become somebody else'),
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-g-'))
    t.teardown(() => {
      rmSync(folder, { recursive: true, force: true })
    })
    chmodSync(folder, 0o777)
    const said = listenAsNobody({ path: join(folder, 'x.sock'), mode: 0o660, group: 'adm' })
    t.match(said, /cannot be given to the group adm: put the user of the service into it/)
  },
)
