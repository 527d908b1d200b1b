// Talking to the daemon: real sockets, daemons that behave and daemons that do not.
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createRawServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { askDaemon } from '../../src/cli/control-client.ts'

const NOBODY = 65_534

/** Short: a socket's path has 107 bytes at most, and a test's own folder takes most of them. */
function makeSocketFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'postern-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

async function serve(t: Test, listener: RequestListener): Promise<string> {
  const socket = `${makeSocketFolder(t)}/control.sock`
  const server = createServer(listener).listen(socket)
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return socket
}

void t.test('the answer is its status and its JSON', async (t) => {
  const socket = await serve(t, (request, response) => {
    response.statusCode = request.method === 'POST' ? 200 : 409
    response.end(JSON.stringify({ path: request.url }))
  })
  t.same(await askDaemon(socket, 'POST', '/a'), { status: 200, body: { path: '/a' } })
  t.same(await askDaemon(socket, 'GET', '/b'), { status: 409, body: { path: '/b' } })
})

void t.test('nobody there is an answer', async (t) => {
  t.equal(await askDaemon(`${makeSocketFolder(t)}/gone.sock`, 'GET', '/'), 'not_running')
  const file = `${makeSocketFolder(t)}/not-a.sock`
  writeFileSync(file, '')
  t.equal(await askDaemon(file, 'GET', '/'), 'not_running', 'a socket that a dead daemon left')
})

void t.test('a socket that is closed to us says so', async (t) => {
  const socket = await serve(t, (_request, response) => void response.end('{}'))
  chmodSync(socket, 0)
  // Root opens every socket: the test is somebody else for as long as it asks.
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(NOBODY)
  try {
    t.match(await askDaemon(socket, 'GET', '/'), { problem: /as root/ })
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
})

void t.test('a daemon that is silent, breaks off or rambles is a fault', async (t) => {
  const silent = await serve(t, () => undefined)
  t.same(await askDaemon(silent, 'GET', '/', 0.05), {
    problem: 'the daemon did not answer within 0.05 s: see its log',
  })

  const wrong = { problem: 'unexpected reply from the daemon: see its log' }
  const cases: [what: string, listener: RequestListener][] = [
    ['not JSON', (_request, response) => void response.end('<html>')],
    ['closed', (request) => void request.socket.destroy()],
    [
      'half an answer',
      (request, response) => {
        response.setHeader('content-length', 100)
        response.write('{"ended"', () => request.socket.destroy())
      },
    ],
    ['far too much', (_request, response) => void response.end('x'.repeat(17 * 1024 * 1024))],
  ]
  for (const [what, listener] of cases)
    t.same(await askDaemon(await serve(t, listener), 'GET', '/'), wrong, what)

  const raw = `${makeSocketFolder(t)}/raw.sock`
  const server = createRawServer((connection) => void connection.end('SSH-2.0\r\n')).listen(raw)
  await once(server, 'listening')
  t.teardown(() => void server.close())
  t.same(await askDaemon(raw, 'GET', '/'), wrong)
})
