// `postern reload`: what the running daemon answers, as lines and an exit code.

import { once } from 'node:events'
import { createServer } from 'node:http'
import t from 'tap'
import { reload, tellReload } from '../../src/cli/reload.ts'
import { makePlace } from '../fixtures/postern.ts'
import { capture, runCommand } from './run.ts'

void t.test('the answer of the daemon becomes lines and an exit code', async (t) => {
  const place = makePlace(t)
  const run = (...argv: string[]) => runCommand(reload, [...argv, '--config', place.config])
  t.match(await run(), { status: 74, out: '', err: /the daemon is not running/ })

  let answer: readonly [status: number, body: string] = [200, '{}']
  const asked: string[] = []
  const server = createServer(({ method, url }, response) => {
    asked.push(`${method} ${url}`)
    response.writeHead(answer[0]).end(answer[1])
  }).listen(place.at('control.sock'))
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const rows: readonly (readonly [status: number, body: object, ran: object])[] = [
    [200, { reloaded: true, ignored: [] }, { status: 0, out: 'reloaded', err: '' }],
    [
      200,
      { reloaded: true, ignored: ['listen.http', 'users.file'] },
      { status: 0, out: 'reloaded', err: 'these wait for a restart: listen.http, users.file' },
    ],
    [
      409,
      { error: 'a:1: x\na:2: y' },
      { status: 78, out: '', err: /^postern reload: not reloaded: .*\na:1: x\na:2: y$/ },
    ],
    [503, {}, { status: 74, err: /not reloaded: .*\nthe daemon answered 503/ }],
  ]
  for (const [status, body, ran] of rows) {
    answer = [status, JSON.stringify(body)]
    t.match(await run(), ran)
  }
  answer = [200, 'no JSON']
  t.match(await run(), { status: 74, err: /not reloaded: .*\nunexpected reply from the daemon/ })
  t.same(new Set(asked), new Set(['POST /reload']))

  answer = [200, '{}']
  const control = place.at('control.sock')
  t.match(await capture(async (io) => (await tellReload(control, io), 0)), { out: 'reloaded' })
  t.equal(asked.at(-1), 'POST /reload?users=held', 'a key says nothing of users')
})

void t.test('wrong words and a bad file reach no daemon', async (t) => {
  t.match(await runCommand(reload, ['now']), { status: 64, err: /^usage: postern reload/m })
  const place = makePlace(t, { log: 'level = "loud"' })
  t.match(await runCommand(reload, ['--config', place.config]), { status: 78, err: /log\.level/ })
  t.match(await runCommand(reload, []), { status: 78, err: /postern\.toml/ })
})
