// Who it is, for applications of every kind: exactly the daemon's word or nothing, however a client spells its own.
import { once } from 'node:events'
import { connect } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { type Nginx, nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { type Seen, startApplication } from './application.ts'
import { ask } from './ask.ts'
import { type Daemon, pass, startDaemon } from './daemon.ts'
import {
  fromCgi,
  makeFolder,
  PHP_NEEDS,
  startGrpc,
  startPhp,
  startUwsgi,
  type Told,
  UWSGI_NEEDS,
} from './processes.ts'
import { readmeBlock } from './readme-site.ts'

const SETS = 'set $postern_action read; set $postern_resource app; set $postern_accept header;'
const PROTECT = `${SETS} include postern/postern-protect.conf;`

const IDENTITY = {
  'x-auth-user': '201',
  'x-auth-role': 'user',
  'x-auth-session': 's1',
  'x-auth-expires': '1800000000',
}
const NAMES = 'User Role Session Expires Action Resource Accept Channel Kick Reason'.split(' ')

/** A client's own copies: each twice, and of any case. */
const COPIES = Object.fromEntries(NAMES.map((name) => [`x-AUTH-${name}`, ['900', '901']]))
const UNDERSCORES = Object.fromEntries(
  NAMES.flatMap((name) => [
    [`X_Auth_${name}`, '903'],
    [`X-Auth_${name}`, '904'],
    [`x_auth-${name}`, '905'],
  ]),
)
const OTHERS = { Cookie: 'a=1; postern=P; __Host-postern=Q; b=2', 'X-Mine': 'mine' }
const BEARER = { ...OTHERS, Authorization: 'Bearer A' }
const BASIC = { ...OTHERS, Authorization: `Basic ${Buffer.from('900:x').toString('base64')}` }

const identityIn = (told: Told): Told =>
  Object.fromEntries(
    Object.entries(told).filter(
      ([name, value]) => /^(?:x[-_]auth|auth|php-auth|remote-user)/.test(name) && value !== '',
    ),
  )

/** What an application was told at `/kind/` (protected) and `/open/kind/`. */
type Call = (path: string, headers: Record<string, string | string[]>) => Promise<Told>

interface Kind {
  name: string
  skip: string | false
  /** Told apart from CGI's names: an http application sees X_Auth_User beside X-Auth-User. */
  underscores: boolean
  remoteUser: boolean
  /** The lines of its location, how it is told who it is, what its server {} needs, and how to call it. */
  start(
    t: Test,
  ): Promise<{ lines: string; include: string; server?: string; call: (nginx: Nginx) => Call }>
}

const callHttp =
  (read: (body: string) => Told) =>
  (nginx: Nginx): Call =>
  async (path, headers) => {
    const reply = await ask(nginx.port, path, { headers })
    if (reply.status !== 200) throw new Error(`${path}: ${reply.status} ${reply.body}`)
    return read(reply.body)
  }
const readCgi = (body: string): Told => fromCgi(JSON.parse(body) as Record<string, unknown>)

const callGrpc = (socket: string) => (): Call => async (path, headers) => {
  const session = connect('http://postern.test', {
    createConnection: () => connectSocket(socket),
  })
  const request = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...Object.fromEntries(Object.entries(headers).map(([k, v]) => [k.toLowerCase(), v])),
  })
  const parts: Buffer[] = []
  request.on('data', (part: Buffer) => void parts.push(part))
  let status: unknown
  request.on('trailers', (trailers) => (status = trailers['grpc-status']))
  request.end(Buffer.from([0, 0, 0, 0, 0]))
  await once(request, 'close')
  session.close()
  if (status !== '0') throw new Error(`grpc-status ${String(status)}`)
  return fromCgi(JSON.parse(Buffer.concat(parts).subarray(5).toString()) as Told)
}

const KINDS: Kind[] = [
  {
    name: 'proxy',
    skip: false,
    underscores: false,
    remoteUser: false,
    start: async (t) => ({
      lines: `proxy_pass http://${await startApplication(t)};`,
      include: 'proxy_set_header Host $host; include postern/postern-identity.conf;',
      call: callHttp((body) => (JSON.parse(body) as Seen).headers as Told),
    }),
  },
  {
    name: 'fastcgi',
    ...PHP_NEEDS,
    underscores: true,
    remoteUser: true,
    start: async (t) => {
      const { socket, script } = await startPhp(t)
      return {
        lines: `include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME ${script}; fastcgi_pass unix:${socket};`,
        include: 'include postern/postern-fastcgi.conf;',
        call: callHttp(readCgi),
      }
    },
  },
  ...(['uwsgi', 'scgi'] as const).map((name) => ({
    name,
    ...UWSGI_NEEDS,
    underscores: true,
    remoteUser: false,
    start: async (t: Test) => ({
      lines: `include /etc/nginx/${name}_params; ${name}_pass unix:${(await startUwsgi(t))[name]};`,
      include: `include postern/postern-${name}.conf;`,
      call: callHttp(readCgi),
    }),
  })),
  {
    name: 'grpc',
    skip: false,
    underscores: false,
    remoteUser: false,
    start: async (t) => {
      const socket = join(makeFolder(t), 'http2.sock')
      return {
        lines: `grpc_pass grpc://${await startGrpc(t)};`,
        include: 'include postern/postern-grpc.conf;',
        server: `listen unix:${socket} http2;`,
        call: callGrpc(socket),
      }
    },
  },
]

/** nginx with these locations besides the example's. */
const startSite = (t: Test, daemon: Daemon, locations: string, http = ''): Promise<Nginx> =>
  startNginx(t, {
    postern: daemon.socket,
    http,
    site: [['    location / {', `${locations}\n    location / {`]],
  })

for (const { name, skip, underscores, remoteUser, start } of KINDS)
  void t.test(`an application behind ${name}_pass`, { skip: nginxMissing() || skip }, async (t) => {
    const daemon = await startDaemon(t)
    const { lines, include, server = '', call } = await start(t)
    const nginx = await startSite(
      t,
      daemon,
      `${server}
      location ^~ /protected/ { ${PROTECT} ${lines} ${name === 'proxy' ? '' : include} }
      location ^~ /open/ { ${lines} ${include} }
      location ^~ /bare/ { ${PROTECT} ${lines} }`,
      'underscores_in_headers on;',
    )
    const ours = call(nginx)
    const copies = underscores ? { ...COPIES, ...UNDERSCORES } : COPIES
    t.beforeEach(() => {
      daemon.answer = pass
    })

    void t.test('is told who it is, and nothing of the client', async (t) => {
      const told = await ours('/protected/x', { ...BEARER, ...copies })
      t.same(identityIn(told), {
        ...IDENTITY,
        ...(remoteUser && { 'remote-user': '201' }),
      })
      t.equal(told['cookie'], 'a=1; b=2', 'other cookies arrive')
      t.equal(told['x-mine'], 'mine', 'other headers arrive')
    })

    void t.test('is told nothing where the daemon says nothing, or is not asked', async (t) => {
      daemon.answer = () => ({ status: 204 })
      for (const path of ['/protected/x', '/open/x'])
        for (const credential of [BEARER, BASIC]) {
          const told = await ours(path, { ...credential, ...copies })
          const { authorization: _, ...identity } = identityIn(told)
          t.same(identity, {}, path)
          t.equal(told['cookie'], 'a=1; b=2', path)
        }
    })

    if (name !== 'proxy')
      void t.test('is told what the client claims without the include', async (t) => {
        const told = await ours('/bare/x', { ...BEARER, ...COPIES })
        t.match(told, { 'x-auth-user': /^90/, authorization: 'Bearer A', cookie: /postern=P/ })
      })
  })

void t.test('PHP in places', { skip: nginxMissing() || PHP_NEEDS.skip }, async (t) => {
  const daemon = await startDaemon(t)
  const { socket, script } = await startPhp(t)
  const lines = `include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME ${script}; fastcgi_pass unix:${socket};`
  const include = 'include postern/postern-fastcgi.conf;'
  const readme = readmeBlock('(PHP)')
    .replace('fastcgi_params', '/etc/nginx/fastcgi_params')
    .replace('/srv/app/index.php', script)
    .replace('/run/php/php-fpm.sock', socket)
  const nginx = await startSite(
    t,
    daemon,
    `${readme}
    location ^~ /in/ {
      ${PROTECT} ${lines} ${include}
      location ~ bare { ${lines} }
      location ~ whole { ${PROTECT} ${lines} ${include} }
    }
    location /prefix/ { ${PROTECT} ${lines} ${include} }
    location ~ [.]php$ { ${lines} }`,
  )
  const call = callHttp(readCgi)(nginx)
  const ask = async (path: string): Promise<{ asked: unknown; told: Told }> => {
    daemon.asked.length = 0
    const told = identityIn(await call(path, { ...BEARER, ...COPIES }))
    return { asked: daemon.asked.map(({ resource }) => resource ?? ''), told }
  }
  const told = { ...IDENTITY, 'remote-user': '201' }

  void t.test("README's lines", async (t) => {
    t.same(await ask('/php/x.php'), { asked: ['app'], told })
  })
  void t.test('a location inside says all of it again', async (t) => {
    t.same(await ask('/in/whole'), { asked: ['app'], told })
  })
  void t.test(
    'one that does not asks for nothing, and is told what the client claims',
    async (t) => {
      // A daemon that is not scripted refuses it: bad_action.
      t.match(await ask('/in/bare'), { asked: [''], told: { 'x-auth-user': /^90/ } })
    },
  )
  void t.test(
    'a pattern beside a prefix answers first, unasked, unless that says ^~',
    async (t) => {
      t.match(await ask('/prefix/x.php'), { asked: [], told: { 'x-auth-user': /^90/ } })
      t.same(await ask('/prefix/x'), { asked: ['app'], told })
      t.same(await ask('/in/x.php'), { asked: ['app'], told })
    },
  )
})
