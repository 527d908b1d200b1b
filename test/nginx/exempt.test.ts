// Places without a login: networks, and a route for everybody. Nobody else gets in by what they say of themselves, the
// application is told who it is all the same, and the daemon counts them.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { nginxMissing, testNginx } from '../fixtures/nginx.ts'
import { bearer, nginxFound, until } from '../fixtures/postern.ts'
import { type Seen, startApplication } from './application.ts'
import { type Ask, ask, V1 } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'
import { openSite } from './live.ts'

const OFFICE = '127.0.0.2'
const ELSEWHERE = '127.0.0.3'
const FRONT = '127.0.0.9'
const exempt = 'set $postern_exempt $postern_office;'
const guarded = (path: string, more: string, pass: string) => `
    location ^~ ${path} {
        set $postern_action $postern_by_method;
        set $postern_resource app;
        set $postern_accept header;
        include postern/postern-protect.conf;
        ${more}
        ${pass}
    }
`

void t.test('without a login', { skip: nginxMissing() }, async (t) => {
  const app = await startApplication(t)
  const pass = `proxy_pass http://${app};`
  // As postern-protect.conf says: it inherits the check, but not the include's `set`.
  const nested = `location ~ \\.php$ {
            set $postern_action read;
            set $postern_resource nested;
            set $postern_accept header;
            ${pass}
        }`
  const own = `
    location = /board/own {
        set $postern_action subscribe;
        set $postern_resource me/users-state;
        set $postern_accept header;
        include postern/postern-protect.conf;
        ${exempt}
        root /dev/null;
        try_files /none $postern_subscribe_at;
    }
`
  const site = await openSite(t, {
    sections: { 'roles.user': 'grants = ["read:app", "subscribe:users-state"]' },
    nginx: {
      app,
      local: [
        uncomment('postern-local.conf', 'geo $postern_office'),
        [
          '192.0.2.0/24 office;\n    192.0.2.77 wallboard;',
          `${OFFICE}/32 office;\n    127.0.0.4 -;\n    127.0.0.5 "Büro 2";`,
        ],
      ],
      site: [
        uncomment('site.example.conf', 'location = /wallboard/states'),
        uncomment('site.example.conf', exempt),
        ['    # set_real_ip_from 192.0.2.10;', `    set_real_ip_from ${FRONT};`],
        ['# real_ip_header', 'real_ip_header'],
        ['# real_ip_recursive', 'real_ip_recursive'],
        // As somebody may have it in front of everything. It must open nothing.
        [
          '    location / {',
          `    satisfy any;
    allow all;
    ${guarded('/app/open/', 'set $postern_exempt "-";', pass)}
    ${guarded('/app/mistyped/', 'set $postern_exempt $postern_exempt;', pass)}
    ${guarded('/guarded/', '', pass)}
    ${guarded('/leads/', exempt, 'root /dev/null; try_files /none /guarded/x;')}
    ${guarded('/leads-inside/', exempt, 'root /dev/null; try_files /none /nested/x.php;')}
    ${guarded('/nested/', '', nested)}
    ${own}
    location / {`,
        ],
      ],
    },
  })
  await nginxFound(site.place)
  const get = (path: string, options: Ask = {}) =>
    ask(site.nginx.port, path, { from: ELSEWHERE, ...options })
  /** The status, and who the application was told it is. */
  const seen = async (path: string, options: Ask = {}): Promise<string> => {
    const { status, body } = await get(path, options)
    if (status !== 200) return String(status)
    const { headers } = JSON.parse(body) as Seen
    const told = ['user', 'role', 'session', 'exempt'].map((name) => headers[`x-auth-${name}`])
    return [status, ...told.slice(0, 2), told[2] && 'session', told[3]].filter(Boolean).join(' ')
  }
  const forwarded = (addresses: string) => ({
    from: FRONT,
    headers: { 'X-Forwarded-For': addresses },
  })

  await t.test('a network that is named needs none, and nobody else is taken for it', async (t) => {
    const rows: [what: string, due: string, options: Ask][] = [
      ['IPv4', '200 office', { from: OFFICE }],
      ['without a name', '200', { from: '127.0.0.4' }],
      ['a name with odd letters', '200 B%C3%BCro%202', { from: '127.0.0.5' }],
      ['IPv4, by the proxy in front', '200 office', forwarded(OFFICE)],
      ['IPv4 in IPv6', '200 office', forwarded(`::ffff:${OFFICE}`)],
      ['IPv6', '200 office', forwarded('2001:db8:1::77')],
      ['IPv6 of elsewhere', '401', forwarded('2001:db8:2::77')],
      ['elsewhere', '401', {}],
      ['the proxy itself', '401', { from: FRONT }],
      ['behind the proxy, says office', '401', forwarded(`${OFFICE}, 198.51.100.7`)],
      ['an address that is none', '401', forwarded('office')],
    ]
    for (const [what, due, options] of rows) t.equal(await seen('/app/x', options), due, what)
    for (const name of [
      'X-Forwarded-For',
      'X-Real-IP',
      'Forwarded',
      'X-Auth-Exempt',
      'X-Postern-Exempt',
      'X-Original-Method',
    ])
      for (const value of [OFFICE, 'office', `for=${OFFICE}`, 'OPTIONS', '-'])
        t.equal(await seen('/app/x', { headers: { [name]: value } }), '401', `${name}: ${value}`)
  })

  await t.test('elsewhere nothing has changed', async (t) => {
    for (const from of [OFFICE, ELSEWHERE, '127.0.0.1'])
      for (const path of ['/guarded/x', '/app/mistyped/x', `${V1}/sub/users-state`])
        t.equal(await seen(path, { from }), '401', `${path} from ${from}`)
  })

  await t.test('a route for everybody below a guarded one', async (t) => {
    t.equal(await seen('/app/open/x'), '200')
    t.equal(await seen('/app/open/../x'), '401')
    t.equal(await seen('/app/open/x', { method: 'POST' }), '200')
  })

  await t.test('where it leads to, a login is needed again', async (t) => {
    t.equal(await seen('/leads/x', { from: OFFICE }), '401')
    t.equal(await seen('/nested/x.php', { from: OFFICE }), '401')
    t.equal(await seen('/leads-inside/x', { from: OFFICE }), '401')
  })

  await t.test('whoever has logged in is told as what they are', async (t) => {
    const { access } = await site.enter()
    const known = { headers: bearer(access) }
    t.equal(await seen('/app/x', known), '200 201 user session')
    t.equal(await seen('/app/x', { from: OFFICE, ...known }), '200 201 user session')
    // Whoever shows nothing gets in: then what is shown shuts nobody out.
    const headers = bearer('a.b.c')
    t.equal(await seen('/app/x', { from: OFFICE, headers }), '200 office')
    t.equal(await seen('/app/x', { headers }), '401')
    t.equal(await seen('/app/x', { method: 'POST', ...known }), '403', 'no grant to write')
    t.equal(await seen('/app/x', { from: OFFICE, method: 'POST', ...known }), '200 office')
    const claims = { 'X-Auth-User': '900', 'X-Auth-Role': 'admin', 'X-Auth-Session': 's' }
    t.equal(await seen('/app/x', { from: OFFICE, headers: claims }), '200 office')
    t.equal(await seen('/app/open/x', { headers: claims }), '200')
  })

  await t.test('a page of another site gains nothing by its visitor being there', async (t) => {
    const Origin = 'https://evil.test'
    const foreign = { 'Sec-Fetch-Site': 'cross-site' }
    const own = { Origin: site.nginx.url, Host: `127.0.0.1:${site.nginx.port}` }
    const rows: [what: string, due: string, options: Ask][] = [
      ['a form', '401', { method: 'POST', headers: { Origin, ...foreign } }],
      ['a form on plain http', '401', { method: 'POST', headers: { Origin } }],
      ['without an origin', '401', { method: 'POST', headers: { Origin: 'null' } }],
      ['a script that would read it', '401', { headers: { Origin, ...foreign } }],
      ['a script tag', '401', { headers: { ...foreign, 'Sec-Fetch-Mode': 'no-cors' } }],
      ['a link', '200 office', { headers: { ...foreign, 'Sec-Fetch-Mode': 'navigate' } }],
      ['a form of its own', '200 office', { method: 'POST', headers: own }],
      ['curl', '200 office', { method: 'POST' }],
    ]
    for (const [what, due, options] of rows)
      t.equal(await seen('/app/x', { from: OFFICE, ...options }), due, what)
    const stream = { from: OFFICE, headers: { Origin, Accept: 'text/event-stream' } }
    t.equal((await get('/wallboard/states', stream)).status, 401, 'nor does it hear a channel')
  })

  await t.test('a wallboard hears its channel, until nginx is reloaded', async (t) => {
    t.equal((await get('/wallboard/states')).status, 401)
    t.equal((await get('/board/own', { from: OFFICE })).status, 401, 'whose own?')
    await site.publish('users-state', 'first')
    t.equal((await get('/wallboard/states', { from: OFFICE })).body, 'first')

    const headers = { Accept: 'text/event-stream' }
    let ended = false
    const listening = get('/wallboard/states', { from: OFFICE, headers }).then(({ body }) => {
      ended = true
      return body
    })
    await delay(500)
    await site.postern('session', 'end', '--all')
    await site.publish('users-state', 'second')
    await delay(500)
    t.notOk(ended, 'no session of anybody is its own')
    site.nginx.reload()
    t.match(await listening, /data: first[^]*data: second/)
    await until('the new worker answers', async () => (await get('/')).status === 404)
  })

  await t.test('it is counted, and needs the daemon', async (t) => {
    const page = (await site.place.operator('/metrics')).body
    const counted = (action: string) =>
      Number(
        new RegExp(
          `^postern_decisions_total{action="${action}",result="exempt",reason=""} (\\d+)$`,
          'm',
        ).exec(page)?.[1],
      )
    t.ok(counted('read') >= 10)
    t.ok(counted('write') >= 4)
    t.ok(counted('subscribe') >= 2)
    t.match(site.nginx.accessLog(), /^127\.0\.0\.2 - office .*"GET \/app\/x /m)
    await site.daemon().end('SIGTERM')
    t.equal(await seen('/app/x', { from: OFFICE }), '503')
  })
})

void t.test(
  "a location's own `satisfy any` is refused by nginx itself",
  { skip: nginxMissing() },
  async (t) => {
    const { status, text } = testNginx(t, {
      postern: '/run/elsewhere/http.sock',
      site: [
        ['        client_max_body_size 64m;', '        satisfy any;\n        allow 127.0.0.2;'],
      ],
    })
    t.not(status, 0)
    t.match(text, /"satisfy" directive is duplicate/)
  },
)
