// Cookies of ours stay with us: what stands behind nginx gets all others, and only those.
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { type Seen, startApplication } from './application.ts'
import { ask, V3 } from './ask.ts'
import { startDaemon } from './daemon.ts'

const ROWS: [what: string, sent: string | string[], arrives: string | undefined][] = [
  // ---- others, as they are
  ['none', [], undefined],
  ['one', 'a=1', 'a=1'],
  ['two, without a space', 'a=1;b=2', 'a=1;b=2'],
  ['an empty value', 'a=; b=', 'a=; b='],
  ['an equals sign in the value', 'a=b==; c=1', 'a=b==; c=1'],
  ['quotes', 'a="x y"; b=1', 'a="x y"; b=1'],
  ['no name', '=x; y', '=x; y'],
  ['odd separators', 'a=1;; b=2 ;', 'a=1;; b=2 ;'],
  [
    'names that contain ours',
    'x-postern=1; postern2=1; my_refreshToken=1',
    'x-postern=1; postern2=1; my_refreshToken=1',
  ],
  ['names that begin as ours', 'postern.x=1; refreshToken[a]=1', 'postern.x=1; refreshToken[a]=1'],
  [
    'ours in another case is another cookie',
    'Postern=1; __host-postern=1',
    'Postern=1; __host-postern=1',
  ],
  ['ours as a value', 'a=postern; b=refreshToken=1', 'a=postern; b=refreshToken=1'],
  // ---- ours
  ['the access cookie', '__Host-postern=SECRET', undefined],
  ['the access cookie on http', 'postern=SECRET', undefined],
  ['the refresh cookie', 'refreshToken=SECRET', undefined],
  ['first', 'postern=SECRET; a=1; b=2', 'a=1; b=2'],
  ['between', 'a=1; postern=SECRET; b=2', 'a=1; b=2'],
  ['last', 'a=1; b=2; postern=SECRET', 'a=1; b=2'],
  ['without spaces', 'a=1;refreshToken=SECRET;b=2', 'a=1;b=2'],
  ['first, without spaces', 'refreshToken=SECRET;a=1', 'a=1'],
  ['with a semicolon after it', 'a=1; postern=SECRET;', 'a=1;'],
  ['with an equals sign', 'postern=SE==CRET; a=1', 'a=1'],
  ['empty', 'postern=; a=1', 'a=1'],
  ['in quotes', 'postern="SECRET"; a=1', 'a=1'],
  ['with spaces about its name', 'a=1;   postern  = SECRET; b=2', 'a=1; b=2'],
  ['with a tab about its name', 'a=1;\tpostern\t=SECRET; b=2', 'a=1; b=2'],
  ['with a byte before it that some read as a space', 'a=1; \u00a0postern=SECRET; b=2', 'a=1; b=2'],
  ['all three', 'postern=SECRET; a=1; refreshToken=SECRET; b=2; __Host-postern=SECRET', 'a=1; b=2'],
  ['all three in a row', 'postern=SECRET; refreshToken=SECRET; __Host-postern=SECRET', undefined],
  ['twice', 'postern=SECRET; a=1; postern=SECRET', 'a=1'],
  ['on two lines', ['a=1; postern=SECRET', 'refreshToken=SECRET; b=2'], 'a=1; b=2'],
  [
    'four times, as no browser does: none passes',
    'a=1; postern=SECRET; postern=SECRET; postern=SECRET; refreshToken=SECRET; b=2',
    undefined,
  ],
  ['a thousand times', `a=1; ${'postern=SECRET;'.repeat(500)} b=2`, undefined],
]

void t.test('cookies', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const nginx = await startNginx(t, { postern: daemon.socket, app, pbx: app })

  for (const path of ['/app/x', '/app/public/x', `${V3}/extensions`])
    void t.test(`${path}: others pass unchanged, ours never`, async (t) => {
      for (const [what, sent, arrives] of ROWS) {
        const headers: Record<string, string | string[]> = sent.length > 0 ? { Cookie: sent } : {}
        const { status, body } = await ask(nginx.port, path, { headers })
        t.equal(status, 200, what)
        t.equal((JSON.parse(body) as Seen).headers.cookie, arrives, what)
        t.notMatch(body, /SECRET/, what)
      }
    })

  void t.test('the daemon gets them all', async (t) => {
    await ask(nginx.port, '/app/x', { headers: { Cookie: 'a=1; postern=P; refreshToken=R' } })
    t.equal(daemon.last().headers.cookie, 'a=1; postern=P; refreshToken=R')
  })
})
