// Recordings as shipped: the bytes, the types, and that every spelling of a path is one resource.
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, RECORDINGS } from './ask.ts'
import { pass, refuse, startDaemon } from './daemon.ts'

const SOUND = Array.from({ length: 1000 }, (_, index) => index % 10).join('')

void t.test('recordings', { skip: nginxMissing() }, async (t) => {
  const folder = t.testdir({
    'outside.mp3': 'outside',
    monitor: {
      '2026': { '11': { 'call.mp3': SOUND, 'call.wav': SOUND } },
      'call.webm': SOUND,
      'call.ogg': SOUND,
      'call.exe': SOUND,
      'call.html': '<script>',
      'a b.mp3': SOUND,
    },
  })
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    recordings: `${folder}/monitor`,
    origins: ['https://phone.test'],
  })
  const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
    ask(nginx.port, `${RECORDINGS}/${path}`, { headers, method })
  t.beforeEach(() => {
    daemon.answer = pass
    daemon.asked.length = 0
  })

  void t.test('a recording comes whole, private and not to be stored', async (t) => {
    const reply = await get('2026/11/call.mp3', { Authorization: 'Bearer A' })
    t.match(reply, {
      status: 200,
      body: SOUND,
      headers: {
        'content-type': 'audio/mpeg',
        'content-length': '1000',
        'cache-control': 'private, no-store',
        'x-content-type-options': 'nosniff',
        'accept-ranges': 'bytes',
      },
    })
    t.match(daemon.last().headers, {
      authorization: 'Bearer A',
      'x-auth-action': 'read',
      'x-auth-accept': 'header ticket cookie',
    })
    t.equal(daemon.last().url, '/check/recordings/2026/11/call.mp3')
  })

  void t.test('each kind of recording has its type', async (t) => {
    const table: [path: string, type: string][] = [
      ['2026/11/call.mp3', 'audio/mpeg'],
      ['2026/11/call.wav', 'audio/wav'],
      ['call.webm', 'audio/webm'],
      ['call.ogg', 'audio/ogg'],
      // Never one that a browser would run.
      ['call.html', 'application/octet-stream'],
      ['call.exe', 'application/octet-stream'],
    ]
    for (const [path, type] of table) t.equal((await get(path)).headers['content-type'], type, path)
  })

  void t.test('a part is a part', async (t) => {
    const table: [range: string, status: number, content: string | undefined, body: string][] = [
      ['bytes=0-9', 206, 'bytes 0-9/1000', '0123456789'],
      ['bytes=995-', 206, 'bytes 995-999/1000', '56789'],
      ['bytes=-3', 206, 'bytes 997-999/1000', '789'],
      ['bytes=0-0', 206, 'bytes 0-0/1000', '0'],
    ]
    for (const [range, status, content, body] of table) {
      const reply = await get('2026/11/call.mp3', { Range: range })
      t.match(reply, { status, body, headers: { 'content-range': content } }, range)
      t.equal(reply.headers['cache-control'], 'private, no-store', range)
      t.notOk(daemon.last().headers.range, 'the daemon is not asked for a part')
    }
    const beyond = await get('2026/11/call.mp3', { Range: 'bytes=1000-' })
    t.match(beyond, { status: 416, headers: { 'content-range': 'bytes */1000' } })
  })

  void t.test('HEAD is checked and answered like GET, without the bytes', async (t) => {
    const reply = await get('2026/11/call.mp3', {}, 'HEAD')
    t.match(reply, { status: 200, body: '', headers: { 'content-length': '1000' } })
    t.equal(daemon.last().headers['x-original-method'], 'HEAD')
    daemon.answer = () => refuse(401, 'no_credential')
    t.match(await get('2026/11/call.mp3', {}, 'HEAD'), { status: 401, body: '' })
  })

  void t.test('nothing is shown to the refused, not even whether it is there', async (t) => {
    for (const [status, reason] of [
      [401, 'no_credential'],
      [403, 'no_grant'],
    ] as const) {
      daemon.answer = () => refuse(status, reason)
      const there = await get('2026/11/call.mp3', { Range: 'bytes=0-9' })
      const missing = await get('2026/11/none.mp3', { Range: 'bytes=0-9' })
      const folder = await get('2026/11')
      for (const reply of [there, missing, folder]) {
        t.equal(reply.status, status)
        t.notOk(reply.headers['content-range'])
        t.notMatch(reply.body, /0123/)
      }
    }
  })

  void t.test('every spelling of a path is one resource', async (t) => {
    const spellings = [
      '2026/11/call.mp3',
      '2026/11/%63all.mp3',
      '2026//11/call.mp3',
      '2026/./11/call.mp3',
      '2026/x/../11/call.mp3',
      '2026/x/%2e%2e/11/call.mp3',
      '2026/x/..%2f11/call.mp3',
      'x%2f..%2f2026%2f11%2fcall.mp3',
      '2026/11/call.mp3?x=/../y.mp3',
      '2026/11/call.mp3#/../y.mp3',
    ]
    for (const spelling of spellings) {
      t.match(await get(spelling), { status: 200, body: SOUND }, spelling)
      t.equal(daemon.last().resource, 'recordings/2026/11/call.mp3', spelling)
    }
  })

  void t.test('a path outside the folder, or of another shape, is not there', async (t) => {
    const paths = [
      '../outside.mp3',
      '%2e%2e/outside.mp3',
      '..%2foutside.mp3',
      '2026/../../outside.mp3',
      '../recordings../outside.mp3',
      '',
      '/',
      '2026/',
      '.hidden',
      '2026/.hidden/a.mp3',
      '2026/11/..%20',
      'call.mp3%0a',
      'a'.repeat(3073),
      'call.mp3%7f',
      'a%0d%0aX-Auth-Action:%20write',
      '2026%5c..%5coutside.mp3',
      'none.mp3',
    ]
    for (const path of paths) {
      const reply = await get(path)
      t.equal(reply.status, 404, path)
      t.notMatch(reply.body, /outside/, path)
    }
    t.same(
      daemon.asked.map((one) => one.resource),
      ['recordings/2026\\..\\outside.mp3', 'recordings/none.mp3'],
      'only a name that could be there is asked about',
    )
    t.match(JSON.parse((await get('none.mp3')).body), { success: false, error: 'Not found' })
    t.equal((await ask(nginx.port, `${RECORDINGS}../outside.mp3`)).status, 404)
  })

  void t.test('a recording cannot be written', async (t) => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH'])
      t.equal((await get('2026/11/call.mp3', {}, method)).status, 405, method)
  })

  void t.test('a page of a listed origin may play it', async (t) => {
    const Origin = 'https://phone.test'
    const preflight = await get(
      '2026/11/call.mp3',
      {
        Origin,
        'Access-Control-Request-Method': 'GET',
        'Access-Control-Request-Headers': 'authorization,range',
      },
      'OPTIONS',
    )
    t.match(preflight, {
      status: 204,
      headers: {
        'access-control-allow-origin': Origin,
        'access-control-allow-methods': /\bGET\b/,
        'access-control-allow-headers': /Authorization.*Range/,
        'access-control-max-age': '600',
        vary: 'Origin',
      },
    })
    t.equal(daemon.asked.length, 0)
    const played = await get('2026/11/call.mp3', { Origin, Range: 'bytes=0-1' })
    t.match(played.headers, {
      'access-control-allow-origin': Origin,
      'access-control-expose-headers': /Content-Range/,
    })
    daemon.answer = () => refuse(401, 'expired')
    t.equal(
      (await get('call.ogg', { Origin })).headers['access-control-allow-origin'],
      Origin,
      'a refusal too',
    )
    const other = await get('2026/11/call.mp3', { Origin: 'https://phone.test.evil.test' })
    t.notOk(other.headers['access-control-allow-origin'])
  })
})
