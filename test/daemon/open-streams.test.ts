// What the daemon does with streams, and says of nginx's workers: in its log, its metrics and to doctor.

import { writeFileSync } from 'node:fs'
import t from 'tap'

import { loadConfig } from '../../src/config/load.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { createLog } from '../../src/log.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { openCutSocket } from '../fixtures/cut-socket.ts'
import { bearer, startTestDaemon, V1 } from '../fixtures/daemon.ts'
import { openKickSocket } from '../fixtures/kick-socket.ts'
import { makePlace, until } from '../fixtures/postern.ts'
import { ask } from '../nginx/ask.ts'

void t.test('a worker of nginx dies, and nginx is reloaded', async (t) => {
  const place = makePlace(t)
  const file = place.at('cgroup.procs')
  place.configure({
    streams: `kick_socket = "${place.at('kick.sock')}"\nprocesses = "${file}"`,
  })
  await openKickSocket(t, place.at('kick.sock'))
  writeFileSync(file, '1\n2\n3\n')
  const lines: string[] = []
  const log = createLog('info', { write: (line: string) => void lines.push(line) })
  const daemon = await startDaemon(loadConfig(place.config), { log, clock: createTestClock() })
  t.teardown(() => daemon.stop())
  const told = async (): Promise<object> => {
    const { body } = await ask(0, '/ready', { socket: place.at('control.sock') })
    return (JSON.parse(body) as { nginx: object }).nginx
  }
  const whole = {
    reloadDue: false,
    listLost: false,
    guessed: false,
    unsure: 0,
    namesInHeader: false,
    cutter: null,
    uncuttable: {},
    fronts: [],
  }
  t.same(await told(), whole)
  writeFileSync(file, '1\n2\n4\n')
  await until('the death is said', () => lines.some((line) => line.includes('nginx died')))
  const death = lines.find((line) => line.includes('nginx died'))
  t.match(JSON.parse(String(death)), { level: 50, pids: ['3'], guessed: false })
  t.match(death, /`systemctl reload nginx`/)
  t.same(await told(), { ...whole, reloadDue: true })
  const { body } = await place.operator('/metrics')
  t.match(body, /^postern_nginx_worker_deaths_total 1$/m)
  t.match(body, /^postern_nginx_reload_due 1$/m)
  writeFileSync(file, '1\n5\n6\n')
  await until('the end of it is said', () => lines.some((line) => line.includes('has new workers')))
  t.same(await told(), whole)
})

const AT = '192.0.2.1 40000 192.0.2.2 443'
const by = (connection: string, protocol = 'HTTP/1.1') => ({
  'X-Original-Connection': `${protocol} ${connection} ${connection.split(' ', 2).join(' ')}`,
})

void t.test('what nginx serves for a session is cut with it', async (t) => {
  const daemon = await startTestDaemon(t)
  const cutter = await openCutSocket(t, daemon.place.at('cut.sock'))
  const { access } = await daemon.softphone()
  const ask = (resource: string, action: string, headers: Record<string, string>) =>
    daemon.check(access, { 'X-Auth-Action': action, resource, ...headers })

  cutter.sockets.set(AT, 'a1')
  t.equal((await ask('sip', 'connect', by(AT))).status, 204)
  t.equal(await daemon.metric('postern_streams{kind="cut"}'), 1)
  const other = AT.replace('40000', '40001')
  cutter.sockets.set(other, 'a2')
  const listens = await ask('users-state', 'subscribe', by(other))
  t.equal(listens.header('x-auth-channels'), 'users-state')
  t.match(listens.header('x-auth-kick'), /^kick-/)
  t.equal((await ask('recordings/a.wav', 'read', {})).status, 204)
  t.equal(await daemon.metric('postern_streams{kind="cut"}'), 2, 'what is not followed is not')

  const { access: second } = await daemon.softphone()
  await daemon.restart()
  const shared = AT.replace('40000', '40002')
  cutter.sockets.set(shared, 'a3')
  const headers = { ...bearer(access), ...by(shared, 'HTTP/2.0') }
  t.equal((await ask('app', 'connect', by(shared, 'HTTP/2.0'))).status, 403)
  t.equal((await ask('sip', 'connect', by(shared, 'HTTP/2.0'))).status, 204)
  const out = await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers })
  t.equal(out.status, 200)
  t.same([...cutter.cut].toSorted(), [AT, other], 'the one that carries the answer not yet')
  await until('it is cut', () => cutter.cut.length === 3)
  t.equal(
    await daemon.metric('postern_kicks_total{cause="session_ended",result="ended",means="cut"}'),
    3,
  )

  const kept = await daemon.check(second, {
    'X-Auth-Action': 'connect',
    resource: 'sip',
    ...by(AT),
  })
  t.equal(kept.status, 204, 'a connection that is gone is let in uncut')
  t.equal(await daemon.metric('postern_streams_uncuttable_total{why="gone"}'), 1)
  const { nginx } = (await daemon.control('/ready')).json() as { nginx: object }
  t.match(nginx, { cutter: null, uncuttable: { gone: 1 } })
})

void t.test('without a cutter: what streams.end says', async (t) => {
  const daemon = await startTestDaemon(t)
  const { access } = await daemon.softphone()
  const listen = () =>
    daemon.check(access, { 'X-Auth-Action': 'subscribe', resource: 'users-state', ...by(AT) })
  const connect = () =>
    daemon.check(access, { 'X-Auth-Action': 'connect', resource: 'sip', ...by(AT) })
  t.match((await listen()).header('x-auth-channels'), /^users-state,kick-/)
  t.equal((await connect()).status, 204)
  t.equal(await daemon.metric('postern_streams_uncuttable_total{why="away"}'), 2)
  const { nginx } = (await daemon.control('/ready')).json() as { nginx: object }
  t.match(nginx, { cutter: /cut\.sock is not there/, uncuttable: { away: 2 } })

  await daemon.reload({ streams: 'end = "cut"' })
  t.equal((await listen()).status, 503)
  t.equal((await connect()).status, 503)
  t.match(daemon.logText(), /this stream cannot be cut \(away\)/)
  t.equal(await daemon.metric('postern_faults_total{kind="stream_uncuttable"}'), 2)

  await daemon.reload({ streams: 'end = "kick"' })
  t.match((await listen()).header('x-auth-channels'), /^users-state,kick-/)
  t.equal((await connect()).status, 204)
  t.equal(await daemon.metric('postern_streams_uncuttable_total{why="away"}'), 4, 'nobody asked')
})

void t.test('several users over one connection: a front that nginx does not name', async (t) => {
  const daemon = await startTestDaemon(t)
  const cutter = await openCutSocket(t, daemon.place.at('cut.sock'))
  cutter.sockets.set(AT, 'a1')
  const listen = async (username: string, resource = 'users-state', connection = AT) => {
    const { access } = await daemon.softphone(username)
    const headers = { 'X-Auth-Action': 'subscribe', resource, ...by(connection, 'HTTP/2.0') }
    t.equal((await daemon.check(access, headers)).status, 204)
  }
  const fronts = async (): Promise<unknown> => {
    const { nginx } = (await daemon.control('/ready')).json() as { nginx: { fronts: unknown } }
    return nginx.fronts
  }
  await listen('201')
  await listen('201')
  await listen('201', 'active-calls')
  cutter.sockets.set(AT, 'a2')
  await listen('202')
  t.same(await fronts(), [], 'one user, and another after them by another socket')
  await listen('201')
  t.same(await fronts(), ['192.0.2.1'])
  t.match(daemon.logText(), /several users come over one connection from there/)
})
