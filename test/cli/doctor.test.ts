// `postern doctor`: a whole report of a machine that is set up, and of one that is not.

import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import { once } from 'node:events'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

import { layOutNginx, nginxCommand } from '../../demo/nginx.ts'
import { doctor } from '../../src/cli/doctor.ts'
import type { Finding } from '../../src/doctor/finding.ts'
import { findClosedPort } from '../fixtures/canned-server.ts'
import { startTestDaemon, type TestDaemon } from '../fixtures/daemon.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { openKickSocket } from '../fixtures/kick-socket.ts'
import { nginxMissing } from '../fixtures/nginx.ts'
import { HASH, makePlace } from '../fixtures/postern.ts'
import { runCommand } from './run.ts'

const report = async (...argv: string[]): Promise<{ status: number; findings: Finding[] }> => {
  const { status, out } = await runCommand(doctor, ['--json', ...argv])
  return { status, findings: JSON.parse(out) as Finding[] }
}

const stateOf = (findings: readonly Finding[], rule: string) =>
  findings.filter((found) => found.rule === rule).map(({ state }) => state)

/** `nginx -T` of the shipped site for this daemon, saved. */
const saveNginx = async ({ place }: TestDaemon): Promise<string> => {
  const folder = place.at('nginx')
  mkdirSync(folder)
  const kick = place.at('private', 'kick.sock')
  mkdirSync(place.at('private'), { mode: 0o750 })
  // nginx -T opens what it would listen on: a port that anybody may open.
  layOutNginx(folder, {
    listen: `127.0.0.1:${await findClosedPort()}`,
    postern: place.at('http.sock'),
    kick,
    user: userInfo().username,
    workers: 2,
  })
  const [program = '', ...rest] = nginxCommand(folder)
  const { stdout } = spawnSync(program, [...rest, '-T'], { encoding: 'utf8' })
  writeFileSync(place.at('dump'), stdout)
  rmSync(kick, { force: true }) // what nginx -T left
  return place.at('dump')
}

void t.test('a machine that is set up', { skip: nginxMissing() }, async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const sockets = `kick_socket = "${place.at('private', 'kick.sock')}"\ncut_socket = "${place.at('cut.sock')}"`
  await daemon.reload({ streams: sockets })
  const dump = await saveNginx(daemon)
  const kick = await openKickSocket(t, place.at('private', 'kick.sock'))
  const { findings } = await report('--config', place.config, '--nginx', dump)
  for (const rule of [
    'node',
    'config',
    'keys',
    'store',
    'daemon',
    'nginx',
    'http-socket',
    'kick-folder',
  ]) {
    t.same(stateOf(findings, rule), ['ok'], rule)
  }
  t.notMatch(stateOf(findings, 'kick-socket'), ['problem'], 'a user postern or not')
  t.match(
    findings.find(({ rule }) => rule === 'nchan'),
    { state: 'ok', text: /^Nchan 1\.3\.6: / },
  )
  t.match(
    findings.find(({ rule }) => rule === 'workers'),
    { state: 'warning', text: /^worker_processes 2: /, cure: /worker_processes 1/ },
  )
  t.same(stateOf(findings, 'cut'), ['warning'], 'nginx itself does not run')
  const listener = createServer((socket) => socket.on('error', () => undefined)).listen(
    0,
    '127.0.0.1',
  )
  await once(listener, 'listening')
  t.teardown(() => listener.close())
  const { port } = listener.address() as AddressInfo
  writeFileSync(
    place.at('followed'),
    `# configuration file /n:\nhttp { server { listen 127.0.0.1:${port}; location /a/ { auth_request /c; set $postern_action connect; } } }\n`,
  )
  const alone = await report('--config', place.config, '--nginx', place.at('followed'))
  t.match(
    alone.findings.filter(({ rule }) => rule === 'cut'),
    [{ state: 'problem', cure: /systemctl enable --now postern-cut\.socket/ }],
    'the cutter is away',
  )
  await daemon.reload({ streams: `${sockets}\nend = "kick"` })
  const kicked = await report('--config', place.config, '--nginx', dump)
  t.same(stateOf(kicked.findings, 'cut'), ['ok'])
  const { out } = await runCommand(doctor, ['--config', place.config, '--nginx', dump])
  t.match(out, /^ok {4}.*postern\.toml: good$/m)
  await kick.close()
  const gone = await report('--config', place.config, '--nginx', dump)
  t.match(
    gone.findings.find(({ rule }) => rule === 'kick-socket'),
    { state: 'problem', text: 'is not there', cure: /systemctl restart nginx/ },
  )
  const mute = createServer((socket) => void socket.destroy()).listen(
    place.at('private', 'kick.sock'),
  )
  t.teardown(() => mute.close())
  const silent = await report('--config', place.config, '--nginx', dump)
  t.match(
    silent.findings.find(({ rule }) => rule === 'kick-socket'),
    { state: 'problem', cure: /gets no answer from nginx \(E[A-Z]+\)/ },
  )

  const probed = await report(
    '--config',
    place.config,
    '--nginx',
    dump,
    '--url',
    'http://127.0.0.1:1/x',
  )
  t.equal(probed.status, 1)
  t.ok(
    stateOf(probed.findings, 'probe').every((state) => state === 'problem'),
    'nobody listens there',
  )

  chmodSync(place.at('state', 'keys.json'), 0o644)
  const loose = await report('--config', place.config, '--nginx', dump)
  t.equal(loose.status, 1)
  t.same(stateOf(loose.findings, 'keys'), ['problem'])
  chmodSync(place.at('state', 'keys.json'), 0o600)
})

void t.test('a machine that is not: each with its cure', async (t) => {
  const place = makePlace(t)
  place.configure({ streams: `kick_socket = "${place.at('kick.sock')}"` })
  writeFileSync(place.at('dump'), '# configuration file /etc/nginx/nginx.conf:\nhttp { }\n')
  const { status, findings } = await report('--config', place.config, '--nginx', place.at('dump'))
  t.equal(status, 1)
  t.same(stateOf(findings, 'state'), ['warning'], 'it was never started')
  for (const rule of ['daemon', 'no-check', 'http-socket', 'kick-socket']) {
    t.ok(stateOf(findings, rule).includes('problem'), rule)
  }
  t.ok(findings.every(({ state, cure }) => state === 'ok' || cure !== undefined))
  const { out } = await runCommand(doctor, ['--config', place.config, '--nginx', place.at('dump')])
  t.match(out, /^BAD {3}.*\n {6}\S/m)

  place.configure({ 'roles.admin': 'grants = ["read:**"]' })
  const narrow = await report('--config', place.config, '--nginx', place.at('dump'))
  t.match(
    narrow.findings.find(({ text }) => text.includes('roles.admin.grants')),
    { rule: 'config', state: 'warning', where: place.config, cure: /^add "write:api/ },
  )

  place.configure()
  place.users(`201:${HASH}:nobody`)
  chmodSync(place.at('users'), 0o644)
  const doubts = (await report('--config', place.config)).findings.filter(
    ({ rule, state }) => rule === 'config' && state === 'warning',
  )
  t.match(doubts, [
    { text: /can read the hashes/, cure: /^chmod o= / },
    { text: /201: may do nothing/, cure: /^correct the role/ },
  ])
  chmodSync(place.at('users'), 0o666)
  const refused = await report('--config', place.config)
  t.match(
    refused.findings.find(({ rule }) => rule === 'config'),
    { state: 'problem', text: /every user of this host can write it/ },
    'what check-config refuses',
  )

  place.configure({ listen: 'http = "127.0.0.1:0"\nfrob = 1' })
  const bad = await report('--config', place.config)
  t.match(bad.findings, [{}, {}, { rule: 'config', text: /frob/ }])
})

void t.test('a daemon that does not talk, and an nginx that warns', async (t) => {
  const place = makePlace(t)
  place.configure()
  const server = createServer((socket) => void socket.end('no answer\n'))
  server.listen(place.at('control.sock'))
  await once(server, 'listening')
  t.teardown(() => server.close())
  mkdirSync(place.at('state'), { mode: 0o700 })
  writeFileSync(place.at('state', 'store.db'), '')
  const folder = t.testdir({
    nginx:
      '#!/bin/sh\necho "nginx: [warn] conflicting server name" >&2\necho "# configuration file /n:"\n',
  })
  chmodSync(join(folder, 'nginx'), 0o755)
  const { PATH } = process.env
  t.teardown(() => {
    process.env['PATH'] = PATH
  })
  process.env['PATH'] = `${folder}:${PATH}`
  const { findings } = await report('--config', place.config)
  t.match(
    findings.find(({ rule }) => rule === 'daemon'),
    { state: 'problem', text: /unexpected reply from the daemon/, cure: /run doctor as root/ },
  )
  t.match(
    findings.find(({ rule }) => rule === 'nginx-warning'),
    { state: 'warning', text: /conflicting server name/ },
  )
  t.same(stateOf(findings, 'keys'), ['problem'], 'a store without keys')
  t.same(stateOf(findings, 'store'), ['problem'])
  t.ok((await report()).findings.length > 2, 'without --config it is the one of /etc')
})

void t.test('what the daemon says of the CDR', async (t) => {
  const place = makePlace(t)
  place.configure({ calls: 'cdr_file = "/pbx/cdr.db"' })
  let cdr: object | undefined
  const control = createHttpServer((_, response) => {
    response.end(JSON.stringify({ obstacle: null, nginx: {}, cdr }))
  }).listen(place.at('control.sock'))
  t.teardown(() => control.close())
  writeFileSync(place.at('dump'), '# configuration file /n:\nhttp { }\n')
  const look = async () => {
    const { findings } = await report('--config', place.config, '--nginx', place.at('dump'))
    return findings.filter((found) => found.rule === 'cdr')
  }
  t.same(await look(), [], 'nothing asks it')
  cdr = {}
  t.match(await look(), [{ state: 'warning', text: /^is being read/ }])
  cdr = { recordings: 7 }
  t.match(await look(), [{ state: 'ok', where: '/pbx/cdr.db', text: 'tells of 7 recordings' }])
  cdr = { recordings: 7, problem: '/pbx/cdr.db: has no table cdr: correct calls.cdr_table' }
  t.match(await look(), [
    { state: 'problem', text: '/pbx/cdr.db: has no table cdr', cure: 'correct calls.cdr_table' },
  ])
})

void t.test('what the daemon could not cut', async (t) => {
  const place = makePlace(t)
  let nginx: object = {}
  const control = createHttpServer((_, response) => {
    response.end(JSON.stringify({ obstacle: null, nginx }))
  }).listen(place.at('control.sock'))
  t.teardown(() => control.close())
  writeFileSync(place.at('dump'), '# configuration file /n:\nhttp { }\n')
  const look = async () => {
    const { findings } = await report('--config', place.config, '--nginx', place.at('dump'))
    return findings.filter(({ rule }) => rule === 'uncuttable' || rule === 'front')
  }
  t.same(await look(), [], 'a daemon of the version before')
  nginx = { uncuttable: { shared: 7, 'of a later version': 1 } }
  t.match(await look(), [
    { state: 'warning', text: /^7 streams .*a proxy in front/, cure: /^let it speak HTTP\/1\.1/ },
    { state: 'warning', text: /the cutter refuses it/ },
  ])
  nginx = { fronts: ['192.0.2.10'] }
  t.match(await look(), [
    { state: 'warning', where: '192.0.2.10', text: /several users/, cure: /set_real_ip_from/ },
  ])
})

void t.test('what is known of nginx and its Nchan', async (t) => {
  const place = makePlace(t)
  place.configure({ subscriptions: `kick_socket = "${place.at('kick.sock')}"` })
  let nginx: object | undefined
  let nchan = '1.3.8'
  const control = createHttpServer((_, response) => {
    response.end(JSON.stringify({ obstacle: null, nginx }))
  }).listen(place.at('control.sock'))
  const kick = createHttpServer((_, response) => {
    response.end(`channels: 0\nnchan version: ${nchan}\n`)
  }).listen(place.at('kick.sock'))
  t.teardown(() => control.close())
  t.teardown(() => kick.close())
  const dump = (main: string, listen = 'nchan_subscriber;'): void => {
    const text = `${main} http { server { listen unix:${place.at('kick.sock')}; location /x { ${listen} } } }`
    writeFileSync(place.at('dump'), `# configuration file /n:\n${text}\n`)
  }
  const look = async (rule: string) => {
    const { findings } = await report('--config', place.config, '--nginx', place.at('dump'))
    return findings.filter((found) => found.rule === rule)
  }
  dump('')
  t.same(await look('worker-died'), [], 'a daemon of the version before')
  nginx = { reloadDue: false, guessed: false, unsure: 0 }
  t.match(await look('worker-died'), [{ state: 'ok' }])
  t.same(await look('old-files'), [])
  nginx = { ...nginx, namesInHeader: true }
  t.match(await look('old-files'), [
    { state: 'problem', text: /^nginx asks by files of 0\.1\.0/, cure: /systemctl reload nginx$/ },
  ])
  nginx = { reloadDue: false, guessed: true, unsure: 0 }
  t.match(await look('worker-died'), [
    { state: 'warning', where: /cgroup\.procs$/, text: /only guessed/, cure: /streams\./ },
  ])
  nginx = { reloadDue: true, guessed: false, unsure: 3 }
  const died = { state: 'problem', text: /died: .*3/, cure: 'systemctl reload nginx' }
  t.match(await look('worker-died'), [died])
  nginx = { reloadDue: true, guessed: true, unsure: 3 }
  t.match(await look('worker-died'), [{ ...died, text: /died, as far as can be guessed: .*3/ }])

  nginx = { reloadDue: true, listLost: true, guessed: false, unsure: 0 }
  t.match(await look('streams-lost'), [
    { state: 'problem', where: /control\.streams$/, cure: 'systemctl reload nginx' },
  ])

  t.match(await look('nchan'), [{ state: 'warning', text: /^not tried: Nchan 1\.3\.8: / }])
  t.same(await look('workers'), [], 'one worker')
  dump('worker_processes auto;')
  t.match(await look('workers'), [{ state: 'warning', text: /^worker_processes auto: / }])
  t.match(await look('nchan'), [{ state: 'warning' }])
  nchan = '1.3.7'
  const kills = { state: 'problem', text: /auto: .*kills workers/, cure: /`worker_processes 1;`/ }
  t.match(await look('nchan'), [kills])
  dump('worker_processes 1;')
  t.match(await look('nchan'), [{ state: 'ok', text: /^Nchan 1\.3\.7: / }])
  dump('worker_processes auto;', '')
  t.same(await look('workers'), [], 'no streams')
})

void t.test('a daemon that cannot decide, and sockets that cannot be asked', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  writeFileSync(place.at('dump'), '# configuration file /n:\nuser nobody-of-this-name;\n')
  rmSync(place.at('state', 'store.db'))
  const { findings } = await report('--config', place.config, '--nginx', place.at('dump'))
  t.match(
    findings.find(({ rule }) => rule === 'daemon'),
    { state: 'problem', text: /it cannot decide: .*store\.db is gone/ },
  )
  t.same(stateOf(findings, 'http-socket'), ['warning'], 'nginx runs as nobody that there is')
})

void t.test('nginx itself is asked where no dump is given', async (t) => {
  const place = makePlace(t)
  place.configure({ listen: 'http = "127.0.0.1:0"' })
  const folder = t.testdir({ nginx: '#!/bin/sh\necho "nginx: [emerg] it is broken" >&2\nexit 1\n' })
  chmodSync(join(folder, 'nginx'), 0o755)
  const { PATH } = process.env
  t.teardown(() => {
    process.env['PATH'] = PATH
  })
  process.env['PATH'] = `${folder}:${PATH}`
  const broken = await report('--config', place.config)
  t.match(
    broken.findings.find(({ rule }) => rule === 'nginx'),
    { text: /it is broken/ },
  )
  process.env['PATH'] = '/nowhere'
  const none = await report('--config', place.config)
  t.match(
    none.findings.find(({ rule }) => rule === 'nginx'),
    { text: 'nginx is not installed' },
  )
  writeFileSync(join(folder, 'nginx'), '#!/bin/sh\necho "# configuration file /n:"\n')
  process.env['PATH'] = `${folder}:${PATH}`
  t.ok(stateOf((await report('--config', place.config)).findings, 'no-check').length > 0)
})

void t.test('wrong usage says what is right', async (t) => {
  for (const argv of [['--frob'], ['--url', 'nonsense'], ['--url', 'ftp://x'], ['extra']]) {
    const { status, err } = await runCommand(doctor, argv)
    t.equal(status, 64, argv.join(' '))
    t.match(err, /usage: postern doctor/)
  }
})

void t.test('a shared store is looked at too', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t, { appendonly: 'yes', appendfsync: 'always' })
  const sections = { store: `url = "${redis.url}"` }
  const { place } = await startTestDaemon(t, { sections })
  const look = async () => (await report('--config', place.config)).findings
  t.same(stateOf(await look(), 'store'), ['ok'])
  redis.cli('CONFIG', 'SET', 'appendonly', 'no', 'maxmemory-policy', 'allkeys-lru')
  const warned = (await look()).filter(({ rule }) => rule === 'store')
  t.match(warned, [
    { state: 'warning', where: 'store.url', cure: 'set maxmemory-policy noeviction' },
    { state: 'warning', cure: 'set appendonly yes and appendfsync always' },
  ])
  await redis.kill()
  t.match(
    (await look()).filter(({ rule }) => rule === 'store'),
    [{ state: 'warning', text: /is away/, cure: 'start it, or correct the url' }],
  )
  place.configure({ store: `url = "${redis.url}"\nca_file = "/none"` })
  t.same(stateOf(await look(), 'store'), ['problem'])
})
