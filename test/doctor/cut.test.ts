// Doctor has a connection of its own cut by the real cutter, and says for each thing that keeps it from that what to do.

import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { systemClock } from '../../src/clock.ts'
import { type Cuts, judgeUncuttable, tryCuts } from '../../src/doctor/cut.ts'
import { parseNginxDump, walk } from '../../src/doctor/nginx-config.ts'
import { createCutter } from '../../src/streams/cutter.ts'
import { WHYS } from '../../src/streams/means.ts'
import { findClosedPort } from '../fixtures/canned-server.ts'
import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'

const spotsOf = (listen: string, lines = 'set $postern_action connect;') => [
  ...walk(
    parseNginxDump(
      `# configuration file /n:\nhttp { server { ${listen} location /a/ { auth_request /c; ${lines} } } }`,
    ),
  ),
]

/** It takes connections as nginx does, and says nothing. */
const listen = async (t: Test, host = '127.0.0.1'): Promise<number> => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
  }).listen(0, host)
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

const cutsBy = (t: Test, path: string): Cuts => {
  const cutter = createCutter({ path, clock: systemClock, onChange() {}, onRefused() {} })
  t.teardown(() => {
    cutter.close()
  })
  return {
    look: cutter.look,
    end: cutter.end,
    whys: WHYS,
    wait: systemClock.wait,
  }
}

void t.test('by the real cutter', NEEDS_CUTTER, async (t) => {
  const [port, six, other] = [await listen(t), await listen(t, '::1'), await listen(t)]
  const { socket } = await startCutter(t, { ports: [port, six] })
  const cuts = cutsBy(t, socket)
  const found = (listens: string) => tryCuts(spotsOf(listens), socket, cuts)
  t.match(await found(`listen ${port}; listen [::]:${port} ssl; listen unix:/s;`), [
    { rule: 'cut', state: 'ok', where: `127.0.0.1:${port}` },
  ])
  t.match(await found(`listen [::]:${port} ipv6only=off;`), [{ where: `127.0.0.1:${port}` }])
  for (const host of ['[::1]', '[::]'])
    t.match(await found(`listen ${host}:${six};`), [{ state: 'ok', where: `::1:${six}` }])
  for (const [said, meant] of [
    ['127.0.0.77', '127.0.0.77:80'],
    ['[::1]', '::1:80'],
    ['*', '127.0.0.1:80'],
  ] as const)
    t.match(await found(`listen ${said};`), [{ where: meant }])
  t.match(await found(`listen 127.0.0.1:${other};`), [
    { state: 'problem', text: /does not stand in the list/, cure: /add it to its unit/ },
  ])
  t.same(await tryCuts(spotsOf(`listen ${port};`, ''), socket, cuts), [], 'nothing is followed')
})

void t.test('what keeps it from that', async (t) => {
  const port = await listen(t)
  const spots = spotsOf(`listen 127.0.0.1:${port};`)
  const by = (look: Cuts['look'], isCut = false) =>
    tryCuts(spots, '/s', {
      look,
      end: () => [Promise.resolve(isCut ? 'ended' : 'nobody')],
      whys: WHYS,
      wait: systemClock.wait,
    })
  const away = join(t.testdir(), 'none')
  t.match(await tryCuts(spots, away, cutsBy(t, away)), [
    { state: 'problem', where: away, cure: /systemctl enable --now postern-cut\.socket/ },
  ])
  t.match(await by(() => Promise.resolve('gone')), [{ cure: /network namespace/ }])
  t.match(await by(() => Promise.resolve({ refused: 'strange' })), [{ cure: /journalctl/ }])
  const found = () => Promise.resolve({ cookie: 'x' })
  t.match(await by(found), [{ state: 'problem' }], 'not cut')
  t.match(await by(found, true), [{ state: 'problem' }], 'said, and not felt')
  const closed = await findClosedPort()
  const nobody = tryCuts(spotsOf(`listen 127.0.0.1:${closed};`), '/s', cutsBy(t, away))
  t.match(await nobody, [{ state: 'warning', cure: /start nginx/ }])
})

void t.test('what the daemon has counted', (t) => {
  t.same(judgeUncuttable({}, '/c', { whys: WHYS }), [])
  t.match(judgeUncuttable({ shared: 3 }, '/c', { whys: WHYS }), [
    { state: 'warning', text: /^3 streams could not be cut: a proxy/, cure: /HTTP\/1\.1/ },
  ])
  t.end()
})
