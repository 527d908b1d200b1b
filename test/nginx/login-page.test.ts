// A page instead of a 401 where people browse: whom it is shown, what stands in the redirect, and that a site's own page
// for a 401 wins where it stands first.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { startApplication } from './application.ts'
import { ask } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'
import { pass, refuse, startDaemon } from './daemon.ts'

/** What Chromium and Firefox send for a page they open. */
const CHROMIUM =
  'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8'
const FIREFOX = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'

void t.test('a page instead of a 401', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const page = t.testdir({ 'index.html': '<p>Log in', 'back.js': '' })
  const shipped = readFileSync(
    join(import.meta.dirname, '..', '..', 'nginx', 'postern-page.conf'),
    'utf8',
  ).replace('/usr/share/postern/page', page)
  const location = (path: string, before: string, behind = '') => `
    location ^~ ${path} {
        set $postern_action read;
        set $postern_resource app;
        set $postern_accept cookie;
        ${before}
        include postern/postern-protect.conf;
        ${behind}
        proxy_pass http://${app};
    }
`
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    app,
    site: [
      uncomment('site.example.conf', 'set $postern_login'),
      ['# include postern/postern-page.conf;', shipped],
      [
        '    location / {',
        `${location('/own/', 'error_page 401 /own.html;')}
    ${location('/own-at/', 'error_page 401 =302 /login/;')}
    ${location('/late/', '', 'error_page 401 /own.html;')}
    ${location('/api/', '')}
    location = /own.html { return 200 "ours"; }
    location / {`,
      ],
    ],
  })
  const get = (path: string, Accept?: string, method = 'GET', more = {}) =>
    ask(nginx.port, path, {
      method,
      headers: { ...(Accept !== undefined && { Accept }), ...more },
    })
  t.beforeEach(() => {
    daemon.answer = () => refuse(401, 'no_credential')
  })

  await t.test('who browses is sent there, everybody else is told 401', async (t) => {
    const rows: [what: string, accept: string | undefined, browses: boolean][] = [
      ['Chromium', CHROMIUM, true],
      ['Firefox', FIREFOX, true],
      ['in other words', 'application/json, Text/HTML;q=0.1', true],
      ['curl', '*/*', false],
      ['nothing', undefined, false],
      ['fetch', 'application/json, text/plain, */*', false],
      ['EventSource', 'text/event-stream', false],
      ['an image', 'image/avif,image/webp,*/*;q=0.8', false],
      ['nearly', 'text/html5, x-text/html, text/htm', false],
    ]
    for (const [what, accept, browses] of rows) {
      const reply = await get('/app/x?y=1&z=%2F', accept)
      t.equal(reply.headers['cache-control'], 'no-store', what)
      if (browses) {
        t.match(reply, { status: 303, headers: { location: '/login/#/app/x?y=1&z=%2F' } }, what)
      } else {
        t.match(reply, { status: 401, headers: { 'www-authenticate': /Bearer/ } }, what)
        t.match(JSON.parse(reply.body), { success: false, error: 'Unauthorized' }, what)
      }
    }
    // htmx, and jQuery's load(), put what they get into the page that they are in.
    const part = 'text/html, */*; q=0.01'
    const modes: [mode: string, status: number][] = [
      ['navigate', 303],
      ['cors', 401],
      ['same-origin', 401],
      ['no-cors', 401],
    ]
    for (const [mode, status] of modes) {
      const more = { 'Sec-Fetch-Mode': mode }
      t.equal((await get('/app/x', part, 'GET', more)).status, status, mode)
      t.equal((await get('/app/x', part, 'POST', more)).status, status, mode)
    }
    t.equal((await get('/api/x', CHROMIUM)).status, 401, 'where no page is named')
    const { headers } = await get('/app/x', CHROMIUM, 'POST')
    t.equal(headers.location, '/login/', 'what was sent is gone: no way back')
    t.equal((await get('/app/x', CHROMIUM, 'HEAD')).headers.location, '/login/#/app/x')
  })

  await t.test('it is no way to another place, and no other refusal leads there', async (t) => {
    // The page reads what stands behind the first #, and takes a path of this site alone.
    for (const path of ['//evil.test/', '/app//evil.test', '/app/%0d%0aX-Evil:%20yes', '/app/%23x'])
      for (const Host of ['evil.test', `127.0.0.1:${nginx.port}`]) {
        const reply = await get(path, CHROMIUM, 'GET', { Host })
        t.notOk(reply.headers['x-evil'])
        if (reply.status !== 303) t.equal(reply.status, 404, path)
        else t.equal(reply.headers.location, `/login/#${path}`)
      }
    daemon.answer = () => refuse(403, 'no_grant')
    t.equal((await get('/app/x', CHROMIUM)).status, 403)
    daemon.answer = () => ({ status: 500 })
    t.equal((await get('/app/x', CHROMIUM)).status, 503)
    daemon.answer = pass
    t.equal((await get('/app/x', CHROMIUM)).status, 200)
  })

  await t.test('the page is open, and lets in nothing of another origin', async (t) => {
    const reply = await get('/login/', CHROMIUM)
    t.match(reply, {
      status: 200,
      body: '<p>Log in',
    })
    t.match(reply.headers['content-security-policy'], /^default-src 'none';.*form-action 'none'/)
    t.equal((await get('/login/back.js')).status, 200)
    t.equal((await get('/login/../app/x')).status, 401)
    t.equal((await get('/login/none')).status, 404)
    t.equal((await get('/login/', CHROMIUM, 'POST')).status, 403)
  })

  await t.test("a site's own page for a 401 wins where it stands before the include", async (t) => {
    t.match(await get('/own/x', CHROMIUM), { status: 401, body: 'ours' })
    t.match(await get('/own-at/x', CHROMIUM), { status: 302 })
    t.match(await get('/late/x'), { status: 401, body: /Unauthorized/ }, 'behind it, ours does')
  })
})
