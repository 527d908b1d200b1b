// A server that stops: whoever is being answered gets the answer, and is told that the connection ends with it.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

import { drain } from '../../src/http/drain.ts'
import { createHttpServer } from '../../src/http/server.ts'

void t.test('a request under way is answered, and its connection is not kept', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-s-'))
  const socketPath = join(folder, 's.sock')
  const agent = new Agent({ keepAlive: true })
  t.teardown(() => {
    agent.destroy()
    rmSync(folder, { recursive: true, force: true })
  })
  const arrived = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  const shape = (error: string) => ({ error })
  const server = createHttpServer({
    router: () => ({
      name: 'slow',
      idAt: 0,
      shape,
      async handler() {
        arrived.resolve()
        await answer.promise
        return { status: 204, headers: [] }
      },
    }),
    shape,
    maxConnections: 16,
    statusOfFault: () => ({ status: 500 }),
    observe: () => undefined,
    onEvents: () => undefined,
    onFault: () => undefined,
    now: () => 0,
  })
  server.listen(socketPath)
  await once(server, 'listening')
  const asked = request({ socketPath, agent, headers: { Host: 'x' } }).end()
  await arrived.promise
  const stopped = drain(server)
  answer.resolve()
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  response.resume()
  t.equal(response.statusCode, 204)
  t.equal(response.headers.connection, 'close')
  await stopped
  await drain(server) // once more is no error
})
