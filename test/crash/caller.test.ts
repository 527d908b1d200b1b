// The judge believes the caller: "unsent" must mean that nothing can have happened, and nothing else may.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { createCaller } from './caller.ts'

/** Answers by the path; an unknown one never. */
const listen = async (t: Test): Promise<{ path: string; server: Server }> => {
  const folder = mkdtempSync(join(tmpdir(), 'caller-')) // a socket's path is at most 107 bytes
  const path = join(folder, 's')
  const server = createServer((request, response) => {
    if (request.url === '/yes') response.writeHead(200, { 'X-Said': 'so' }).end('body')
    if (request.url === '/cut') request.socket.destroy()
    if (request.url === '/half') {
      response.writeHead(200, { 'Content-Length': 100 }).write('half')
      setImmediate(() => request.socket.destroy())
    }
  }).listen(path)
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { path, server }
}

void t.test('what became of a request', async (t) => {
  const { path, server } = await listen(t)
  const caller = createCaller(path, 1)
  t.teardown(() => caller.close())
  t.match(await caller.call('/yes'), { status: 200, headers: { 'x-said': 'so' }, body: 'body' })
  t.equal(await caller.call('/cut'), 'broken')
  t.equal(await caller.call('/half'), 'broken')
  t.equal(await caller.call('/never'), 'late')
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
  t.equal(await caller.call('/yes'), 'unsent', 'its socket is gone')
})
