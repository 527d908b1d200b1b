// The probes against a server that refuses rightly, and against ones that do not.

import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import t, { type Test } from 'tap'

import { type PageTerms, probe } from '../../src/doctor/probe.ts'

const serve = async (t: Test, listener: RequestListener): Promise<URL> => {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : 0
  return new URL(`http://127.0.0.1:${port}/recordings/a.wav`)
}

const summary = async (url: URL): Promise<string[]> =>
  (await probe(url))
    .filter(({ state }) => state !== 'ok')
    .map(({ state, text }) => `${state} ${text}`)

void t.test('a site that refuses every stranger is fine', async (t) => {
  const seen: string[] = []
  const url = await serve(t, (request, response) => {
    seen.push(request.url ?? '')
    response.writeHead(request.url === '/recordings/a.wav' ? 401 : 404, {
      'WWW-Authenticate': 'Bearer realm="postern"',
    })
    response.end()
  })
  const findings = await probe(url)
  t.same(new Set(findings.map(({ state }) => state)), new Set(['ok']))
  for (const spelling of [
    '//recordings/a.wav',
    '/recordings%2fa.wav',
    '/recordings/%61.wav',
    '/recordings/x/../a.wav',
  ]) {
    t.ok(seen.includes(spelling), `${spelling} went out as it is written`)
  }
})

void t.test('whoever is let in by a spelling or a header is named', async (t) => {
  const bySpelling = await serve(t, (request, response) => {
    response.writeHead(request.url === '/recordings/a.wav' ? 401 : 200, {
      'WWW-Authenticate': 'Bearer',
    })
    response.end()
  })
  t.match(await summary(bySpelling), [/^problem as \/\/recordings\/a\.wav: answered 200$/])
  const byHeader = await serve(t, (request, response) => {
    response.writeHead(request.headers['x-auth-user'] === 'admin' ? 200 : 401, {
      'WWW-Authenticate': 'Bearer',
    })
    response.end()
  })
  t.same(await summary(byHeader), ['problem with identity headers of its own: answered 200'])
})

void t.test('an open or missing address, a bare 401 and silence are told apart', async (t) => {
  const open = await serve(t, (_, response) => void response.end('secret'))
  t.ok((await summary(open)).every((line) => /^problem .*answered 200$/.test(line)))
  const gone = await serve(t, (_, response) => void response.writeHead(404).end())
  t.match(await summary(gone), [/^warning without a token: answered 404 and not 401$/])
  const bare = await serve(t, (_, response) => void response.writeHead(401).end())
  t.match(await summary(bare), [/^problem without a token: 401 without WWW-Authenticate$/])
  const deaf = await serve(t, (request) => void request.socket.destroy())
  t.match(await summary(deaf), [/^problem without a token: no answer/])
  t.match(await probe(new URL('https://127.0.0.1:1/x')), [{ state: 'problem', text: /no answer/ }])
})

void t.test('a page that counts as another site’s is told the line to write', async (t) => {
  const seen: string[] = []
  const answers = { status: 403 }
  const url = await serve(t, (request, response) => {
    const { method, headers } = request
    if (headers.origin !== undefined) {
      seen.push(`${method} ${request.url} ${headers.origin} ${headers['sec-fetch-site']}`)
      response.writeHead(answers.status).end()
    } else response.writeHead(401, { 'WWW-Authenticate': 'Bearer' }).end()
  })
  const { origin } = url
  const terms = (origins: string[]): PageTerms => ({
    site: { origins },
    softphone: { basePath: '/soft' },
    mikopbx: { basePath: '/pbx' },
  })
  const found = async (origins: string[] = []) => (await probe(url, terms(origins))).at(-1)
  t.match(await found(), {
    rule: 'origin',
    state: 'problem',
    where: origin,
    cure: `write origins = ["${origin}"] below [site] in postern.toml, and postern reload`,
  })
  t.same(seen, [
    `GET /soft/profile ${origin} undefined`,
    `POST /pbx/auth:refresh ${origin} undefined`,
  ])
  t.match(await found(['https://other']), {
    cure: `add "${origin}" to site.origins in postern.toml, and postern reload`,
  })
  t.match(await found([origin]), { state: 'problem', cure: /^postern reload: / })
  answers.status = 401
  t.match(await found(), { state: 'ok', where: origin })
  answers.status = 404
  t.match(await found(), { state: 'warning', text: /not known/, cure: /cross_site/ })
  t.match((await probe(new URL('http://127.0.0.1:1/x'), terms([]))).at(-1), { state: 'warning' })
  const blind = await probe(url)
  t.notOk(
    blind.some(({ rule }) => rule === 'origin'),
    'nothing is tried where nothing is known',
  )
})
