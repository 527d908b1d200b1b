// Bad files, named by their fault, each with the exact lines that an operator reads.

import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ConfigError } from '../../src/config/config-error.ts'
import { loadConfig, readConfig } from '../../src/config/load.ts'
import { retired } from '../../src/config/retired.ts'
import { settings } from '../../src/config/schema.ts'

const FIXTURES = join(import.meta.dirname, '../fixtures/config')
const root = join(import.meta.dirname, '../..')

const problemsOf = (load: () => unknown): readonly string[] => {
  try {
    load()
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

const PUBLIC =
  'can be reached from other machines: use a unix socket, 127.0.0.1 or [::1], or set listen.public = true and guard the port with a firewall'
const GRANTS = 'a list of grants, such as ["subscribe:users-state", "read:recordings/**"]'
const ADDRESS = '"unix:/path/of.sock", "127.0.0.1:9477" or "[::1]:9477"'
const ENTRY = 'must be named by 1 to 64 letters, digits, _ or -, the first a letter or digit'

const AS_BROWSERS =
  'must be written as browsers do: in lower case, a name beyond ASCII as xn--…, an address in its shortest form, and no port that the scheme has anyway'

/** Fixture → its lines, without the file name that starts each. */
const EXPECTED: Readonly<Record<string, readonly string[]>> = {
  'syntax-error-beside-a-secret': ['3:12: not TOML: invalid value'],
  'unclosed-string-of-a-secret': ['2:25: not TOML: control characters are not allowed in strings'],
  'redefined-setting': ['3:1: not TOML: trying to redefine an already defined table or value'],

  'misspelt-section': ['2: softfone: unknown setting: did you mean softphone?'],
  'misspelt-settings': [
    '2: listen.htpp: unknown setting: did you mean listen.http?',
    '3: listen."socket group": unknown setting: did you mean listen.socket_group?',
    '6: softphone.acess_ttl: unknown setting: did you mean softphone.access_ttl?',
    '7: softphone.colour: unknown setting: remove it',
    '10: checks.directory: unknown setting: did you mean state.directory?',
    `12: roles.guest.grants: is missing: must be ${GRANTS}`,
    '13: roles.guest.grant: unknown setting: did you mean roles.guest.grants?',
  ],
  'setting-outside-its-section': [
    '1: http: unknown setting: did you mean listen.http?',
    '2: grants: unknown setting: did you mean roles.NAME.grants?',
    '3: constructor: unknown setting: remove it',
  ],
  'strange-keys': [
    String.raw`2: listen."\u001b[31mred\u202e": unknown setting: remove it`,
    '3: listen.toString: unknown setting: remove it',
    `4: listen.${'a'.repeat(64)}…: unknown setting: remove it`,
    '5: listen.__proto__: unknown setting: remove it',
  ],

  'wrong-types': [
    `2: listen.http: must be in quotes: ${ADDRESS}`,
    '3: listen.public: must be true or false, without quotes',
    '6: tokens.issuer: must be in quotes: 1 to 255 printable ASCII characters',
    '9: log.level: must be one of "trace", "debug", "info", "warn", "error"',
    '10: log.security: must be in quotes: an absolute path, or empty',
    `13: roles.guest.grants: must be ${GRANTS}`,
    `18: roles.host.grants[1]: must be in quotes: ${GRANTS}`,
    '22: throttle.pair_failures: must be a whole number from 1 to 1000000, without quotes',
    '23: throttle.address_failures: must be a whole number from 1 to 1000000',
  ],
  'out-of-range': [
    '2: refresh.grace: must be a whole number from 0 to 60',
    '5: throttle.pair_failures: must be a whole number from 1 to 1000000',
    '8: softphone.access_ttl: must be a whole number from 1 to 86400',
    '11: passwords.memory_kib: must be a whole number from 7168 to 1048576',
    '14: log.level: must be one of "trace", "debug", "info", "warn", "error"',
  ],
  'sections-that-are-none': [
    '1: listen: must be a section: write [listen] and its settings below it',
    '2: tokens: must be a section: write [tokens] and its settings below it',
    '3: roles.user: must be a section: write [roles.user] and its settings below it',
    '4: state: must be a section: write [state] and its settings below it',
    '6: log: must be a section: write [log] and its settings below it',
  ],

  'relative-paths': [
    '1: state.directory: must be an absolute path: start it with /, end it without',
    '2: users.file: must be an absolute path: start it with /, end it without',
    '3: log.security: must be an absolute path, or empty: start it with /, end it without',
    '4: listen.http: must name the socket by an absolute path, such as /run/postern/http.sock',
    '4: listen.control: is always a unix socket: write the path alone, without "unix:"',
  ],
  'socket-path-too-long': [
    '2: listen.http: must be a socket path of at most 107 bytes: choose a shorter folder',
  ],
  'addresses-that-are-none': [
    `2: listen.http: must be ${ADDRESS}; a name such as localhost is not looked up`,
    `3: listen.operator: must be ${ADDRESS}: the part before the port is no IP address`,
  ],
  'base-path-ends-with-a-slash': [
    '2: softphone.base_path: must be a path such as "/api/v1": it starts with /, does not end with / and has only letters, digits, _ ~ - and dots within names',
  ],

  'public-binds': [`2: listen.http: ${PUBLIC}`, `3: listen.operator: ${PUBLIC}`],
  'listeners-at-one-tcp-address': [
    '3: listen.operator: listen.http and listen.operator share one address: give each its own',
  ],
  'listeners-at-one-socket': [
    '2: listen.operator: listen.http and listen.operator share one address: give each its own',
    '3: listen.control: listen.http and listen.control share one socket: give each its own',
    '3: listen.control: listen.operator and listen.control share one socket: give each its own',
  ],
  'refresh-ends-before-access': [
    '3: softphone.refresh_ttl: softphone.refresh_ttl must be longer than softphone.access_ttl, else no access token can ever be refreshed',
  ],

  'idle-ends-before-access': [
    '3: refresh.idle_ttl: must be 0, or longer than softphone.access_ttl: clients refresh when their token is about to end',
  ],

  'bad-origins': [
    '3: site.origins[0]: must end with the host or its port: no path, no / behind it, no login',
    `4: site.origins[1]: ${AS_BROWSERS}`,
    `5: site.origins[2]: ${AS_BROWSERS}`,
    '6: site.origins[3]: must name one host, without * or blanks: list each',
    '7: site.origins[4]: must begin with https:// or http://',
    `8: site.origins[5]: ${AS_BROWSERS}`,
    `9: site.origins[6]: ${AS_BROWSERS}`,
    '10: site.origins[7]: must end with the host or its port: no path, no / behind it, no login',
  ],
  'origin-as-http-and-https': [
    '2: site.origins: must be a list such as ["https://pbx.example.com"], each host once, as https or as http',
  ],

  'bad-grants': [
    '2: roles.user.grants[1]: names no action: use one of read, write, subscribe, connect, publish',
    '3: roles.user.grants[2]: has an empty segment: no leading, trailing or double slash',
    '6: roles.admin.grants[0]: is not of the form action:pattern, e.g. subscribe:users-state',
  ],
  'bad-role-names': [
    `1: roles."a:b": ${ENTRY}`,
    `4: roles.__proto__: ${ENTRY}`,
    `7: roles.empty.grants: is missing: must be ${GRANTS}`,
  ],

  // The rules about pairs keep silent while one of the pair is wrong by itself.
  'problems-everywhere': [
    '3: softphone.access_ttl: must be a whole number from 1 to 86400',
    '6: listen.public: must be true or false',
    '10: log.levle: unknown setting: did you mean log.level?',
  ],
}

void t.test('every problem of a bad file is told at once, with its line', async (t) => {
  for (const [fault, lines] of Object.entries(EXPECTED)) {
    const file = join(FIXTURES, `${fault}.toml`)
    t.same(
      problemsOf(() => loadConfig(file)),
      lines.map((line) => `${file}:${line}`),
      fault,
    )
  }
})

void t.test('every fixture is expected, and every expectation has its fixture', async (t) => {
  t.same(
    readdirSync(FIXTURES).sort(),
    Object.keys(EXPECTED)
      .map((fault) => `${fault}.toml`)
      .sort(),
  )
})

void t.test('no problem ever shows what was found in the file', async (t) => {
  const secret = 'hunter2'
  const spellings = [
    `"${secret}"`,
    secret,
    `"${secret}`,
    `'''${secret}`,
    `["${secret}"]`,
    `{a="${secret}"}`,
    `"${secret}\\q"`,
    `1${secret}`,
    `"${secret}" "x"`,
  ]
  const keys = [
    'listen.http',
    'listen.public',
    'refresh.grace',
    'log.level',
    'cookies.secure',
    'site.origins',
    'state.directory',
    'softphone.base_path',
    'roles.a.grants',
    'roles.b',
    'listen',
    'nothing.at.all',
    'x',
  ]
  for (const key of keys) {
    for (const value of spellings) {
      const problems = problemsOf(() => readConfig(`${key} = ${value}\n`, 'f').config)
      t.not(problems.length, 0, `${key} = ${value} is refused`)
      t.notMatch(problems.join('\n'), secret, `${key} = ${value} is not shown`)
    }
  }
})

void t.test('a file that cannot be read is told with its cure', async (t) => {
  const dir = t.testdir({ 'latin1.toml': '', 'a-folder': {}, 'plain-file': '' })
  writeFileSync(join(dir, 'latin1.toml'), Buffer.from([0x23, 0xe4, 0x0a]))
  const told = (name: string) =>
    problemsOf(() => loadConfig(join(dir, name)))
      .join('\n')
      .replace(`${dir}/`, '')
  t.equal(
    told('absent.toml'),
    'absent.toml: no such file: copy postern.example.toml there, or name the file to read',
  )
  t.equal(told('a-folder'), 'a-folder: is a folder: name the file in it')
  t.equal(told('latin1.toml'), 'latin1.toml: is not UTF-8: save it as UTF-8')
  t.equal(told('plain-file/x'), 'plain-file/x: cannot be read (ENOTDIR)')
})

void t.test('a file that every user of the host can write is refused', async (t) => {
  const file = join(t.testdir({ 'open.toml': '' }), 'open.toml')
  loadConfig(file)
  for (const mode of [0o646, 0o662, 0o666]) {
    chmodSync(file, mode)
    const says = `open.toml: has mode ${mode.toString(8)}: every user of this host can write it`
    t.ok(
      problemsOf(() => loadConfig(file))
        .join()
        .includes(says),
    )
  }
})

void t.test('a file that may not be read is told with its cure', async (t) => {
  const file = join(t.testdir({ 'secret.toml': '' }), 'secret.toml')
  chmodSync(file, 0)
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(65_534) // root may read everything: be nobody for this one read
  const problems = problemsOf(() => loadConfig(file))
  if (isRoot) process.seteuid?.(0)
  t.match(problems, [
    /may not be read: run this as root \(sudo\); the service reads it by its group/,
  ])
})

void t.test('a byte order mark and Windows line ends are no fault', async (t) => {
  const file = join(t.testdir({ 'c.toml': '\uFEFF[tokens]\r\nissuer = "x"\r\n' }), 'c.toml')
  t.equal(loadConfig(file).tokens.issuer, 'x')
})

void t.test(
  'what the file says is what the config holds, and the rest keeps its default',
  async (t) => {
    const defaults = readConfig('', 'empty').config
    const config = readConfig(
      `listen.public = true
    listen.http = "0.0.0.0:9477"
    listen.operator = "[0:0::0]:0"
    [state]
    directory = "/srv/../srv/postern"
    [log]
    security = ""
    [roles.user]
    grants = ["read:a/{username}/**"]
    [roles.guest]
    grants = []
    `,
      'f',
    ).config
    t.same(config, {
      ...defaults,
      listen: {
        ...defaults.listen,
        http: { host: '0.0.0.0', port: 9477 },
        operator: { host: '::', port: 0 },
        public: true,
      },
      state: { directory: '/srv/postern' },
      log: { level: 'info', security: '' },
      roles: new Map([
        ['user', ['read:a/{username}/**']],
        ['admin', defaults.roles.get('admin')],
        ['guest', []],
      ]),
      settings: config.settings,
    })
  },
)

void t.test('the example file says exactly what an empty file means', async (t) => {
  t.strictSame(loadConfig(join(root, 'postern.example.toml')), readConfig('', 'empty').config)
  t.not(readFileSync(join(root, 'postern.example.toml'), 'utf8').length, 0)
})

void t.test('a setting of an earlier version is read, and named with its line', async (t) => {
  const names = Object.keys(retired)
  t.ok(names.length > 0)
  for (const name of names)
    t.notOk(
      settings.some((row) => row.name === name),
      name,
    )
  const loaded = readConfig(
    `[tokens]
leeway = 99
[listen]
max_connections = "many"
socket_mode = "0666"
[issuers.acme]
leeway = 60
issuer = "https://acme.example"
audience = "pbx"
jwks_file = "/etc/acme.json"
role_claim = "role"
roles = ["staff=user"]
`,
    'f',
  )
  t.same(loaded.warnings, [
    'f:2: tokens.leeway: no longer has an effect (5 seconds): remove it',
    'f:4: listen.max_connections: no longer has an effect (4096 connections): remove it',
    'f:5: listen.socket_mode: no longer has an effect (the mode is 0660, for the group of listen.socket_group): remove it',
    'f:7: issuers.acme.leeway: no longer has an effect (5 seconds): remove it',
  ])
  t.same(readConfig('', 'f').warnings, [])
})

void t.test('a section of an earlier name is read, and named with its line', async (t) => {
  const old = readConfig('[subscriptions]\nkick_socket = "/run/x.sock"\nper_session = 5\n', 'f')
  t.match(old.config.streams, { kickSocket: '/run/x.sock', perSession: 5, nginx: '' })
  t.same(old.warnings, [
    'f:1: subscriptions: is called [streams] now: rename the section, the next version no longer reads the old name',
  ])
  const both = readConfig(
    '[subscriptions]\nper_session = 5\nnginx = "one"\n[streams]\nper_session = 6\n',
    'f',
  )
  t.match(both.config.streams, { perSession: 6, nginx: 'one' }, 'the new name counts first')
  t.equal(both.warnings.length, 1)
  t.same(
    problemsOf(() => readConfig('[subscriptions]\nper_session = 0\nper_sesion = 1\n', 'f')),
    [
      'f:2: subscriptions.per_session: must be a whole number from 1 to 10000',
      'f:3: subscriptions.per_sesion: unknown setting: did you mean subscriptions.per_session?',
    ],
  )
})
