// Every slip that ends a start ends check-config, with the same exit code and in the same words: a table of a bad value
// or a missing file for each setting that names something outside the configuration.

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'

import { checkConfig } from '../../src/cli/check-config.ts'
import type { Command } from '../../src/cli/command.ts'
import { serve } from '../../src/cli/serve.ts'
import { ConfigError } from '../../src/config/config-error.ts'
import { loadConfig, openConfig } from '../../src/config/load.ts'
import { judgeConfig } from '../../src/daemon/judge.ts'
import { StartError } from '../../src/daemon/open-state.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { createLog } from '../../src/log.ts'
import { runCommand } from '../cli/run.ts'
import { insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { HASH, makePlace, type Place } from '../fixtures/postern.ts'

const runHere = async (command: Command, ...argv: string[]) => {
  const umask = process.umask()
  const { status, out, err } = await runCommand(command, argv)
  process.umask(umask)
  return { status, out, err: err === '' ? [] : err.split('\n') }
}

/** What keeps the daemon itself from starting, whoever judged before; undefined where it starts. */
const findObstacle = async (place: Place): Promise<unknown> => {
  const log = createLog('fatal', { write: () => undefined })
  try {
    const daemon = await startDaemon(loadConfig(place.config), { log, clock: createTestClock() })
    await daemon.stop()
    return undefined
  } catch (error) {
    return error
  }
}

const certificate = (t: Test): string => {
  const folder = t.testdir({})
  const to = `${folder}/ca.pem`
  const subject = ['-subj', '/CN=test', '-nodes', '-x509', '-newkey', 'ec']
  const curve = ['-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', `${folder}/key.pem`]
  spawnSync('openssl', ['req', ...subject, ...curve, '-out', to])
  return to
}

const JWKS = {
  keys: [
    {
      kty: 'OKP',
      crv: 'Ed25519',
      kid: 'a',
      alg: 'EdDSA',
      use: 'sig',
      x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo',
    },
  ],
}

/** A good configuration of everything there is, changed by `breaks`. */
const makeWhole = (t: Test): Place => {
  const place = makePlace(t)
  const good: Readonly<Record<string, string>> = {
    users: 'sources = ["file", "asterisk", "http"]',
    asterisk: `file = "${place.at('pjsip.conf')}"\nrole = "user"`,
    http_users: [
      'login_url = "https://pbx.example/login"',
      'lookup_url = "https://pbx.example/lookup"',
      `ca_file = "${certificate(t)}"`,
      `token_file = "${place.at('token')}"`,
    ].join('\n'),
    'issuers.acme': [
      'issuer = "https://acme.example"',
      'audience = "pbx"',
      `jwks_file = "${place.at('acme.json')}"`,
      'role_claim = "role"',
      'roles = ["staff=user"]',
    ].join('\n'),
  }
  writeFileSync(place.at('token'), 'a-token')
  writeFileSync(place.at('acme.json'), JSON.stringify(JWKS), { mode: 0o600 })
  writeFileSync(
    place.at('pjsip.conf'),
    '[301]\ntype=auth\nusername=301\npassword=secret301\n[301]\ntype=endpoint\nauth=301\n',
  )
  return {
    ...place,
    configure(changes = {}) {
      const merged: Record<string, string> = { ...changes }
      for (const [section, lines] of Object.entries(good)) {
        const changed = new Set(
          (changes[section] ?? '').split('\n').map((line) => line.split(' = ')[0]),
        )
        const kept = lines.split('\n').filter((line) => !changed.has(line.split(' = ')[0]))
        merged[section] = [...kept, changes[section] ?? ''].join('\n')
      }
      place.configure(merged)
    },
  }
}

type Slip = readonly [what: string, breaks: (place: Place) => void, says: RegExp]

const to = (section: string, line: string) => (place: Place) => place.configure({ [section]: line })
const state = (place: Place): void => {
  mkdirSync(place.at('state'), { mode: 0o700 })
}
const keys = (place: Place, text: string): void => {
  state(place)
  writeFileSync(place.at('state', 'store.db'), '', { mode: 0o600 })
  writeFileSync(place.at('state', 'keys.json'), text, { mode: 0o600 })
}

const SLIPS: readonly Slip[] = [
  ['a bad value', to('log', 'level = "loud"'), /postern\.toml:\d+: log\.level: must be/],
  ['a misspelt setting', to('log', 'levle = "info"'), /log\.levle: .*did you mean log\.level/],
  [
    'a socket path that is too long',
    to('listen', `control = "/run/${'a'.repeat(103)}"`),
    /postern\.toml:\d+: listen\.control: must be a socket path of at most 107 bytes/,
  ],
  [
    'a file where a socket should be',
    (place) => writeFileSync(place.at('http.sock'), 'mine'),
    /postern\.toml:\d+: listen\.http: .*http\.sock is there and is no socket/,
  ],
  [
    'a file where the control socket should be',
    (place) => writeFileSync(place.at('control.sock'), 'mine'),
    /postern\.toml:\d+: listen\.control: .*control\.sock is there and is no socket/,
  ],
  [
    'no folder for a socket',
    (place) => place.configure({ listen: `operator = "unix:${place.at('none', 'op.sock')}"` }),
    /postern\.toml:\d+: listen\.operator: .*none.*the directory does not exist/,
  ],
  [
    'a file above a socket',
    (place) => place.configure({ listen: `control = "${place.at('users', 'c.sock')}"` }),
    /postern\.toml:\d+: listen\.control: .*users\/c\.sock: the directory does not exist/,
  ],
  [
    'a group that is not there',
    to('listen', 'socket_group = "nosuchgroup"'),
    /postern\.toml:\d+: listen\.socket_group: there is no group nosuchgroup/,
  ],
  [
    'a file where the state directory should be',
    (place) => writeFileSync(place.at('state'), ''),
    /postern\.toml:\d+: state\.directory: .*state cannot be made/,
  ],
  [
    'a file above the state directory',
    (place) => {
      writeFileSync(place.at('file'), '')
      place.configure({ state: `directory = "${place.at('file', 'state')}"` })
    },
    /postern\.toml:\d+: state\.directory: .*state cannot be made/,
  ],
  [
    'a state directory that others may write to',
    (place) => {
      state(place)
      chmodSync(place.at('state'), 0o777)
    },
    /postern\.toml:\d+: state\.directory: .*others may write here/,
  ],
  [
    'a key file that is none',
    (place) => keys(place, 'nonsense'),
    /state\.directory: .*keys\.json: /,
  ],
  [
    'a key file that others may read',
    (place) => {
      keys(place, '{"keys":[]}')
      chmodSync(place.at('state', 'keys.json'), 0o644)
    },
    /keys\.json: has mode 644/,
  ],
  [
    'a link where the key file should be',
    (place) => {
      keys(place, '{"keys":[]}')
      rmSync(place.at('state', 'keys.json'))
      symlinkSync(place.at('token'), place.at('state', 'keys.json'))
    },
    /keys\.json: is a symbolic link/,
  ],
  [
    'keys whose store is gone',
    (place) => {
      keys(place, '{"keys":[]}')
      rmSync(place.at('state', 'store.db'))
    },
    /state\.directory: .*store\.db is gone while .*keys\.json is there/,
  ],
  [
    'a url that is none',
    to('store', 'url = "http://redis"'),
    /store\.url: the url of the Redis store/,
  ],
  [
    'a password file that is not there',
    to('store', 'url = "redis://127.0.0.1:1"\npassword_file = "/none/password"'),
    /postern\.toml:\d+: store\.password_file: \/none\/password cannot be read \(ENOENT\)/,
  ],
  [
    'authorities of the store that are not there',
    to('store', 'url = "rediss://127.0.0.1:1"\nca_file = "/none/ca.pem"'),
    /postern\.toml:\d+: store\.ca_file: cannot be read \(ENOENT\)/,
  ],
  [
    'no users file',
    (place) => rmSync(place.at('users')),
    /postern\.toml:\d+: users\.file: .*no such file/,
  ],
  ['a users file with a bad hash', (place) => place.users('201:plain:user'), /^\/.*users:1: /m],
  [
    'a users file with two of a name',
    (place) => place.users(`201:${HASH}:user`, `201:${HASH}:user`),
    /^\/.*users:2: the same name/m,
  ],
  [
    'no file of Asterisk',
    (place) => rmSync(place.at('pjsip.conf')),
    /postern\.toml:\d+: asterisk\.file: .*cannot be read \(ENOENT\)/,
  ],
  [
    'an included file of Asterisk that everybody can write',
    (place) => {
      writeFileSync(place.at('pjsip.conf'), '#include more.conf\n')
      writeFileSync(place.at('more.conf'), '')
      chmodSync(place.at('more.conf'), 0o666)
    },
    /^\/.*pjsip\.conf:1: \/.*more\.conf: has mode 666/m,
  ],
  [
    'a role of Asterisk that is none',
    to('asterisk', 'role = "phones"'),
    /postern\.toml:\d+: asterisk\.role: is no role/,
  ],
  [
    'an address that is none',
    to('http_users', 'login_url = "pbx.example/login"'),
    /postern\.toml:\d+: http_users\.login_url: no address/,
  ],
  [
    'passwords in the clear',
    to('http_users', 'lookup_url = "http://pbx.example/lookup"'),
    /postern\.toml:\d+: http_users\.lookup_url: would send passwords in the clear/,
  ],
  [
    'a login in the address',
    to('http_users', 'login_url = "https://a:b@pbx.example/login"'),
    /postern\.toml:\d+: http_users\.login_url: holds a login/,
  ],
  [
    'authorities of the service that are not there',
    to('http_users', 'ca_file = "/none/ca.pem"'),
    /postern\.toml:\d+: http_users\.ca_file: cannot be read \(ENOENT\)/,
  ],
  [
    'authorities of the service that are none',
    to('http_users', 'ca_file = "/etc/hostname"'),
    /postern\.toml:\d+: http_users\.ca_file: holds no PEM certificate/,
  ],
  [
    'a token that is not there',
    (place) => rmSync(place.at('token')),
    /postern\.toml:\d+: http_users\.token_file: .*token cannot be read \(ENOENT\)/,
  ],
  [
    'an empty token',
    (place) => writeFileSync(place.at('token'), '\n'),
    /postern\.toml:\d+: http_users\.token_file: .*token is empty/,
  ],
  [
    'a token of two lines',
    (place) => writeFileSync(place.at('token'), 'a\nb'),
    /postern\.toml:\d+: http_users\.token_file: must hold printable ASCII/,
  ],
  [
    'no keys of an issuer',
    (place) => rmSync(place.at('acme.json')),
    /postern\.toml:\d+: issuers\.acme: .*acme\.json: cannot be read \(ENOENT\)/,
  ],
  [
    'keys of an issuer that others may write',
    (place) => chmodSync(place.at('acme.json'), 0o666),
    /postern\.toml:\d+: issuers\.acme: .*acme\.json: can be written by others/,
  ],
  [
    'keys of an issuer that are none',
    (place) => writeFileSync(place.at('acme.json'), '{"keys":[]}'),
    /postern\.toml:\d+: issuers\.acme: .*acme\.json: holds no key/,
  ],
  [
    'an issuer over plain http',
    to('issuers.acme', 'jwks_file = ""\njwks_url = "http://acme.example/keys"'),
    /postern\.toml:\d+: issuers\.acme\.jwks_url: must be https/,
  ],
  [
    'a role of an issuer that is none',
    to('issuers.acme', 'roles = ["staff=phones"]'),
    /postern\.toml:\d+: issuers\.acme\.roles: maps to a role that is none of ours/,
  ],
  [
    'no folder for the security log',
    (place) => place.configure({ log: `security = "${place.at('none', 'security.log')}"` }),
    /postern\.toml:\d+: log\.security: .*none\/security\.log cannot be written/,
  ],
  [
    'a folder where the security log should be',
    (place) => mkdirSync(place.at('security.log')),
    /postern\.toml:\d+: log\.security: .*security\.log cannot be written/,
  ],
]

void t.test('what ends a start ends check-config, in the same words', async (t) => {
  for (const [what, breaks, says] of SLIPS) {
    const place = makeWhole(t)
    place.configure()
    breaks(place)
    const judged = await runHere(checkConfig, place.config)
    t.equal(judged.status, 78, `${what}: check-config`)
    t.match(judged.err.join('\n'), says, what)
    if (judged.status !== 78) continue
    t.same(await runHere(serve, '--config', place.config), judged, `${what}: serve`)
    const obstacle = await findObstacle(place)
    t.ok(
      obstacle instanceof ConfigError || obstacle instanceof StartError,
      `${what}: the start itself`,
    )
  }
})

void t.test('what is good is good, nothing is made, and what is odd is told', async (t) => {
  const place = makeWhole(t)
  place.configure()
  const ok = `${place.config}: ok`
  t.same(await runHere(checkConfig, place.config), { status: 0, out: ok, err: [] })
  for (const name of ['state', 'security.log', 'http.sock'])
    t.notOk(existsSync(place.at(name)), name)
  t.equal(await findObstacle(place), undefined)
  t.same(await runHere(checkConfig, place.config), { status: 0, out: ok, err: [] }, 'and then')

  const names = ['201', '202', '203', '204', '205']
  place.users(...names.map((name) => `${name}:${HASH}:phones`), `206:${HASH}:user`)
  chmodSync(place.at('users'), 0o644)
  t.match(await runHere(checkConfig, place.config), {
    status: 0,
    out: ok,
    err: [
      /^warning: .*users: every user of this host can read the hashes/,
      /^warning: .*users: 201, 202, 203 and 2 more: may do nothing, since their role has no \[roles\.NAME\] section/,
    ],
  })
  place.users(`201:${HASH}:phones`)
  chmodSync(place.at('users'), 0o640)
  t.match((await runHere(checkConfig, place.config)).err, [/users: 201: may do nothing/])
})

void t.test('an emptied source of all users is told', async (t) => {
  const place = makePlace(t)
  place.users('')
  const told = await runHere(checkConfig, place.config)
  t.match(told, { status: 0, err: [/^warning: .*users: no user is there: nobody can log in/] })
  writeFileSync(place.at('pjsip.conf'), '')
  const asterisk = { asterisk: `file = "${place.at('pjsip.conf')}"` }
  place.configure({ users: 'sources = ["asterisk"]', ...asterisk })
  t.match((await runHere(checkConfig, place.config)).err, [
    /pjsip\.conf: no account is there/,
    /pjsip\.conf: no user is there/,
  ])
})

void t.test('who logged in with an earlier version and does not any more is told', async (t) => {
  const place = makePlace(t)
  const phone = (name: string, lines: string): string =>
    `[${name}]\ntype=endpoint\nauth=${name}\naors=${name}\n${lines}\n[${name}]\ntype=auth\nusername=${name}\npassword=hunter2-${name}\n`
  const contact = '[desk]\ntype=aor\ncontact=sip:192.0.2.1\n'
  const pbx = [
    phone('201', ''),
    phone('desk', contact),
    phone('carrier', 'context=from-pstn'),
  ].join('')
  writeFileSync(place.at('pjsip.conf'), pbx)
  const warnings = async (...rules: string[]): Promise<readonly string[]> => {
    place.configure({
      users: 'sources = ["asterisk"]',
      asterisk: `file = "${place.at('pjsip.conf')}"\nrules = ${JSON.stringify(rules)}`,
    })
    return (await runHere(checkConfig, place.config)).err
  }
  const told = await warnings()
  t.match(told, [
    /pjsip\.conf:\d+: desk can no longer log in by \[desk\]: its aor has a static contact: "name desk keep" in asterisk\.rules lets it in$/,
    /pjsip\.conf:\d+: carrier can no longer log in by \[carrier\]: its context from-pstn is one of asterisk\.trunk_contexts: "name carrier keep"/,
  ])
  t.notMatch(told.join(), /hunter/)
  t.equal((await warnings('name desk keep')).length, 1)
  t.same(await warnings('name desk keep', 'name carrier leave out'), [], 'it is meant')

  const many = Array.from({ length: 25 }, (_, index) =>
    phone(`t\u001B${index}`, 'context=from-pstn'),
  )
  writeFileSync(place.at('pjsip.conf'), pbx + many.join(''))
  const cut = await warnings('name desk keep', 'name carrier leave out')
  t.equal(cut.length, 21)
  t.match(cut[20], /and 5 more: see postern user list --source asterisk/)
  t.notMatch(cut.join(), '\u001B')
})

void t.test('what only the running machine can tell is left to it', async (t) => {
  const place = makeWhole(t)
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const absent = `postern-${process.pid}-absent`
  const cases: [what: string, sections: Record<string, string>][] = [
    ['a port in use', { listen: `operator = "127.0.0.1:${port}"` }],
    ['a folder that systemd makes for sockets', { listen: `control = "/run/${absent}/c.sock"` }],
    ['for the state', { state: `directory = "/var/lib/${absent}"` }],
    ['for the log', { log: `security = "/var/log/${absent}/security.log"` }],
    ['a store that is away', { store: 'url = "redis://127.0.0.1:1"' }],
    [
      'an issuer that is away',
      { 'issuers.acme': 'jwks_file = ""\njwks_url = "http://127.0.0.1:1/keys"' },
    ],
    ['no security log', { log: 'security = ""' }],
    ['a state directory two folders deep', { state: `directory = "${place.at('a', 'b')}"` }],
  ]
  for (const [what, sections] of cases) {
    place.configure(sections)
    t.equal((await runHere(checkConfig, place.config)).status, 0, what)
  }
  place.configure(cases[0]?.[1])
  t.match(await runHere(serve, '--config', place.config), {
    status: 78,
    err: [/^cannot listen on 127\.0\.0\.1:\d+: something else listens there/],
  })
})

void t.test('every problem is told at once', async (t) => {
  const place = makeWhole(t)
  place.configure({ listen: 'socket_group = "nosuchgroup"' })
  rmSync(place.at('token'))
  rmSync(place.at('acme.json'))
  place.users('201:plain:user')
  const { err } = await runHere(checkConfig, place.config)
  t.match(err, [/socket_group/, /users:1: /, /token_file/, /acme\.json/])
  t.equal(err.length, 4)
})

void t.test('a fault of the program is not passed off as one of the file', async (t) => {
  const loaded = openConfig(makePlace(t).config)
  const users = { ...loaded.config.users, sources: ['nobody' as 'file'] }
  await t.rejects(judgeConfig({ ...loaded, config: { ...loaded.config, users } }), TypeError)
})

void t.test('a CDR that cannot be read is told, and ends no start', async (t) => {
  const place = makePlace(t)
  const file = place.at('cdr.db')
  const configure = (more = ''): void =>
    place.configure({
      calls: `sources = ["cdr"]\ncdr_file = "${file}"${more}`,
      'roles.user': 'grants = ["read:recordings/{own_calls}"]',
    })
  configure()
  const judge = async () => (await runHere(checkConfig, place.config)).err
  t.match(await judge(), [/^warning: .*cdr\.db: is not there: correct calls\.cdr_file/])
  t.equal(await findObstacle(place), undefined)
  const writer = startWriter(t, file)
  await writer.run(TABLE, insertCall('a.wav'))
  t.same(await judge(), [])
  configure('\ncdr_prefixes = ["/var/spool"]')
  t.match(await judge(), [
    /^warning: .*none is in the folder of recordings: set calls\.cdr_prefixes/,
  ])
  configure('\ncdr_columns = ["source=nobody"]')
  t.match(await judge(), [/^warning: .*has no column nobody \(source\)/])
})
