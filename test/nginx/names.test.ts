// A name is one resource wherever it is asked about: at nginx by header, cookie and ticket, and by doctor, `policy
// explain` and `token inspect`. The shipped nginx files, the real daemon.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { policy } from '../../src/cli/policy.ts'
import { token } from '../../src/cli/token.ts'
import { probe } from '../../src/doctor/probe.ts'
import { runCommand } from '../cli/run.ts'
import { bearer, HASH, JSON_TYPE, startTestDaemon } from '../fixtures/daemon.ts'
import { inAddress, inPattern, NAMES } from '../fixtures/names.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { type Seen, startApplication } from './application.ts'
import { ask, RECORDINGS, type Reply, V1 } from './ask.ts'

const OCTETS = 'application/octet-stream'
const OWNER = 'Анна Петрова'
const OWN = ['read:app', 'read:recordings/{username}/*', `read:recordings/${inPattern('*97')}/**`]

void t.test('names as people have them', { skip: nginxMissing() }, async (t) => {
  const folder = t.testdir({ outside: {} })
  const daemon = await startTestDaemon(t, {
    sections: { 'roles.user': `grants = ${JSON.stringify(OWN)}` },
    users: [`${OWNER}:${HASH}:user`],
  })
  const app = await startApplication(t)
  const nginx = await startNginx(t, { postern: daemon.socket, recordings: folder, app })
  const put = (...names: string[]): string => {
    const path = join(folder, ...names)
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, `the file ${names.join('/')}`)
    return names.map(inAddress).join('/')
  }
  const get = (path: string, headers: Record<string, string> = {}): Promise<Reply> =>
    ask(nginx.port, `${RECORDINGS}/${path}`, { headers })
  const isFile = (t: Test, reply: Reply, ...names: string[]): void => {
    const body = Buffer.from(reply.body, 'latin1').toString()
    t.same([reply.status, body], [200, `the file ${names.join('/')}`], names.join('/'))
  }
  const { access } = await daemon.softphone(OWNER)
  const orderTicket = (resource: string): Promise<Reply> =>
    ask(nginx.port, `${V1}/auth/ticket`, {
      headers: { ...JSON_TYPE, ...bearer(access) },
      body: JSON.stringify({ action: 'read', resource }),
    })
  const ticketFor = async (resource: string): Promise<string> =>
    (JSON.parse((await orderTicket(resource)).body) as { ticket: string }).ticket

  void t.test(
    'each name by header, cookie and ticket is the file of that name alone',
    async (t) => {
      for (const name of NAMES) {
        const address = put(OWNER, name)
        const theirs = put('202', name)
        const ticket = await ticketFor(`recordings/${inPattern(OWNER)}/${inPattern(name)}`)
        const proofs: [headers: Record<string, string>, query: string][] = [
          [bearer(access), ''],
          [{ Cookie: `postern=${access}` }, ''],
          [{}, `?ticket=${ticket}`],
        ]
        for (const [headers, query] of proofs) {
          isFile(t, await get(address + query, headers), OWNER, name)
          const other = await get(theirs + query, headers)
          t.equal(other.status, query === '' ? 403 : 401, `of another: ${name}`)
        }
        const neighbours = NAMES.filter((other) => other !== name)
        for (const other of neighbours.slice(0, 3)) {
          const path = `${inAddress(OWNER)}/${inAddress(other)}?ticket=${ticket}`
          t.equal((await get(path)).status, 401, `the ticket for ${name} is none for ${other}`)
        }
        const part = await get(address, { ...bearer(access), Range: 'bytes=4-7' })
        t.match(part, { status: 206, body: 'file' }, name)
        t.equal(part.headers['content-type'], name.endsWith('.wav') ? 'audio/wav' : OCTETS, name)
      }
    },
  )

  void t.test('doctor, policy explain and token inspect say the same of it', async (t) => {
    const config = daemon.place.config
    for (const name of NAMES) {
      for (const [owner, due] of [
        [OWNER, /^allowed: Анна Петрова has the role user, .* read:recordings\/\{username\}\/\*$/],
        ['202', /^refused \(no_grant\): /],
      ] as const) {
        const resource = `recordings/${owner}/${name}`
        const asked = ['--config', config, '--action', 'read', '--resource', resource]
        t.match((await runCommand(policy, ['explain', '--user', OWNER, ...asked])).out, due, name)
        const inspected = await runCommand(token, ['inspect', ...asked], `${access}\n`)
        t.match(inspected.out, owner === OWNER ? /check: 204/ : /check: 403 no_grant/, name)
      }
      const url = new URL(`${nginx.url}${RECORDINGS}/${inAddress(OWNER)}/${inAddress(name)}`)
      t.same(
        (await probe(url)).filter(({ state }) => state !== 'ok'),
        [],
        name,
      )
    }
  })

  void t.test('a ticket or a grant made from a name with a star is no wildcard', async (t) => {
    const star = await ticketFor(`recordings/${inPattern(OWNER)}/${inPattern('*.wav')}`)
    const any = await ticketFor(`recordings/${inPattern(OWNER)}/*.wav`)
    const own = put(OWNER, '*.wav')
    const other = put(OWNER, 'x.wav')
    t.equal((await get(`${own}?ticket=${star}`)).status, 200)
    t.equal((await get(`${other}?ticket=${star}`)).status, 401)
    for (const path of [own, other]) t.equal((await get(`${path}?ticket=${any}`)).status, 200)
    isFile(t, await get(put('*97', 'a'), bearer(access)), '*97', 'a')
    t.equal((await get(put('197', 'a'), bearer(access))).status, 403)
    for (const raw of ['100%.wav', '{username}.wav', '[a] {b}.wav']) {
      const answer = await orderTicket(`recordings/${OWNER}/${raw}`)
      t.match(answer, { status: 400, body: /%2A, %25, %7B and %7D/ }, raw)
    }
    t.equal((await orderTicket(`recordings/${OWNER}/a b (1) Ж.wav`)).status, 200, 'or as it is')
  })

  void t.test('two spellings are two resources, and only UTF-8 is one', async (t) => {
    const composed = await ticketFor(`recordings/${OWNER}/\u00e9.wav`)
    const [nfc, nfd] = ['\u00e9.wav', 'e\u0301.wav'].map((name) => put(OWNER, name))
    t.equal((await get(`${nfc}?ticket=${composed}`)).status, 200)
    t.equal((await get(`${nfd}?ticket=${composed}`)).status, 401)
    for (const bytes of ['%FF', '%C3', '%C0%AE', '%ED%A0%80', '%C2%85']) {
      const reply = await get(`${inAddress(OWNER)}/${bytes}.wav`, bearer(access))
      t.equal(reply.status, 403, bytes)
    }
    t.match(
      nginx.accessLog(),
      /%ED%A0%80\.wav HTTP\/1\.1" 403 \d+ "-" "-" check=403 reason=bad_res/,
    )
  })

  void t.test(
    'nginx that still runs by files of 0.1.0 goes on with what they served',
    async (t) => {
      const shipped = readFileSync(
        join(import.meta.dirname, '..', '..', 'nginx', 'postern-server.conf'),
        'utf8',
      )
      const old = shipped.replace(
        /rewrite \^ \/check\/.*\n.*proxy_pass http:\/\/postern;/,
        () =>
          'proxy_set_header X-Auth-Resource $postern_resource;\nproxy_pass http://postern/check;',
      )
      const before = await startNginx(t, {
        postern: daemon.socket,
        recordings: folder,
        site: [
          [
            '    include postern/postern-server.conf;\n',
            old.replaceAll('/var/log/nginx/', `${folder}/`),
          ],
        ],
      })
      const getBefore = (path: string): Promise<Reply> =>
        ask(before.port, `${RECORDINGS}/${path}`, { headers: bearer(admin.access) })
      const admin = await daemon.softphone('900')
      const [plain, cyrillic] = [put('a.wav'), put('Ж.wav')]
      isFile(t, await getBefore(plain), 'a.wav')
      t.equal((await getBefore(cyrillic)).status, 403)
      t.match((await daemon.control('/ready')).json(), { nginx: { namesInHeader: true } })
      isFile(t, await get(cyrillic, bearer(admin.access)), 'Ж.wav')
      t.match((await daemon.control('/ready')).json(), { nginx: { namesInHeader: false } })
    },
  )

  void t.test('what nginx reads as a token endpoint is no check', async (t) => {
    for (const path of [`/check/..${V1}/profile`, `/check/recordings/..%2f%2e./${V1}/profile`]) {
      const { status, headers } = await ask(nginx.port, path, { headers: bearer(access) })
      t.equal(status, 404, path)
      t.notOk(headers['x-auth-reason'])
    }
  })

  void t.test('an application learns the name of its user, and no log is torn', async (t) => {
    const reply = await ask(nginx.port, '/app/', { headers: bearer(access) })
    const { headers } = JSON.parse(reply.body) as Seen
    t.equal(decodeURIComponent(String(headers['x-auth-user'])), OWNER)
    await get(`${inAddress(OWNER)}/a%0d%0ab`, bearer(access))
    await get(`202/${inAddress('\u202e\u{1f600}"')}`, { ...bearer(access), 'X-Real-IP': '::1' })
    const lines = (await daemon.securityLog()).split('\n')
    t.ok(lines.length > 10)
    for (const line of lines) t.match(line, /^(?:\[[A-Z_]+\] [ -~]+ \| Time: [0-9TZ:.-]+)?$/)
    t.notMatch(nginx.accessLog(), /[^ -~\n]/)
  })
})
