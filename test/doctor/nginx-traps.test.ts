// The shipped site has none of the traps; broken in one place, each is named with its cure. Every fixture is a
// configuration that nginx itself accepts: `nginx -T` of the real nginx is what doctor reads.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import t, { type Test } from 'tap'

import { layOutNginx, nginxCommand } from '../../demo/nginx.ts'
import { parseNginxDump } from '../../src/doctor/nginx-config.ts'
import { findTraps } from '../../src/doctor/nginx-traps.ts'
import { nginxMissing } from '../fixtures/nginx.ts'

const FIXTURES = join(import.meta.dirname, '..', 'fixtures', 'doctor')

interface Fault {
  rule: string
  file: string
  from: string
  to: string
}

const readFault = (name: string): Fault => {
  const lines = readFileSync(join(FIXTURES, name), 'utf8').split('\n')
  const say = (word: string): string =>
    lines.find((line) => line.startsWith(`${word}: `))?.slice(word.length + 2) ?? ''
  const part = (sign: string): string =>
    lines
      .filter((line) => line.startsWith(sign))
      .map((line) => line.slice(2))
      .join('\n')
  return { rule: say('rule'), file: say('file'), from: part('- '), to: part('+ ') }
}

/** What `nginx -T` says of the shipped site, changed in one place. */
const dump = (t: Test, fault?: Fault): string => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-doctor-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  layOutNginx(folder, { listen: '127.0.0.1:1', postern: `${folder}/http.sock`, user: 'root' })
  if (fault) {
    const site = fault.file === 'site.example.conf'
    const file = join(folder, site ? 'sites-enabled/postern.conf' : `postern/${fault.file}`)
    const own = (text: string): string =>
      text
        .replaceAll('/var/log/nginx/', `${folder}/`)
        .replaceAll('/run/postern-nginx/kick.sock', `${folder}/kick.sock`)
        .replaceAll('unix:/run/postern/http.sock', `unix:${folder}/http.sock`)
    const before = readFileSync(file, 'utf8')
    const after = before.replace(own(fault.from), () => own(fault.to))
    if (after === before) throw new Error(`nothing to replace in ${fault.file}`)
    writeFileSync(file, after)
  }
  const [program = '', ...rest] = nginxCommand(folder)
  const run = spawnSync(program, [...rest, '-T'], { encoding: 'utf8' })
  if (run.status !== 0) throw new Error(run.stderr)
  return run.stdout
}

void t.test('the shipped site has no trap', { skip: nginxMissing() }, (t) => {
  t.same(findTraps(parseNginxDump(dump(t))), [])
  t.end()
})

const faults = readdirSync(FIXTURES)

void t.test('twenty and more faults, each named with its cure', { skip: nginxMissing() }, (t) => {
  t.ok(faults.length >= 20)
  for (const name of faults) {
    const fault = readFault(name)
    const found = findTraps(parseNginxDump(dump(t, fault)))
    const hit = found.find(({ rule }) => rule === fault.rule)
    t.ok(hit, `${basename(name, '.txt')}: ${found.map(({ rule }) => rule).join(', ')}`)
    t.match(hit, { state: 'problem', where: /\S:\d+$|^nginx -T$/, text: /\S/, cure: /\S/ })
  }
  t.end()
})

void t.test('the commented public endpoint is no trap', { skip: nginxMissing() }, (t) => {
  const site = readFileSync(join(import.meta.dirname, '../../nginx/site.example.conf'), 'utf8')
  const [from = ''] = /^ *# location = \/pbxcore\/api.*\n(?: *# .*\n)+/m.exec(site) ?? []
  const to = from.replaceAll(/^( *)# /gm, '$1')
  const open = { rule: '', file: 'site.example.conf', from, to }
  t.same(findTraps(parseNginxDump(dump(t, open))), [])
  t.end()
})

void t.test('what only looks like a trap is none', (t) => {
  const rules = (lines: string) =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { location ~ kick-[a] { nchan_publisher; } server { access_log /l; access_log /m nosuchformat; location /a { auth_request /c; set; rewrite; rewrite ^ /x; allow; ${lines} } location /b { auth_request off; nchan_publisher; deny all; } location { alias; } if ($x) { set; } upstream { } } }`,
      ),
    ).map(({ rule }) => rule)
  t.same(rules(''), ['no-check'])
  t.same(rules('rewrite ^ https://elsewhere.test/;'), ['no-check', 'return'])
  t.same(rules('set $postern_accept query; access_log off;'), ['no-check'])
  t.same(rules('set $postern_accept ticket;'), ['no-check', 'log-format'])
  const twice = 'set $postern_accept ticket; location /d { set $postern_accept query; }'
  t.same(rules(twice), ['no-check', 'log-format'], 'one log, once')
  t.end()
})

void t.test(
  'a cache that the check location inherits is named, and one that is off is none',
  (t) => {
    const rules = (lines: string, own = '') =>
      findTraps(
        parseNginxDump(
          `# configuration file /etc/nginx/nginx.conf:\nhttp { ${lines} server { location = /c { internal; client_max_body_size 0; proxy_pass_request_body off; proxy_pass_request_headers off; proxy_set_header Content-Length ""; proxy_set_header Connection ""; proxy_http_version 1.1; proxy_read_timeout 500ms; ${own} rewrite ^ /check/$postern_resource? break; proxy_pass http://postern; } } }`,
        ),
      ).map(({ rule }) => rule)
    t.same(rules(''), [])
    t.same(rules('proxy_cache site;'), ['check-cache'])
    t.same(rules('proxy_cache site;', 'proxy_cache off;'), [])
    t.end()
  },
)

void t.test('who it is, in every place of an application', (t) => {
  const names = ['USER', 'ROLE', 'SESSION', 'EXPIRES', 'ACTION', 'RESOURCE', 'ACCEPT']
  const include = [...names, 'CHANNEL', 'KICK', 'REASON']
    .map((name) => `fastcgi_param HTTP_X_AUTH_${name} "";`)
    .join(' ')
  const rules = (...servers: string[]) =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { ${servers.map((lines) => `server { ${lines} }`).join(' ')} }`,
      ),
    )
      .map(({ rule }) => rule)
      .filter((rule) => rule === 'identity')
  const guarded = `location ^~ /a { auth_request /c; fastcgi_pass unix:/s; ${include} }`
  const open = 'location /b { fastcgi_pass unix:/s; }'
  t.same(rules(guarded), [])
  t.same(rules(`${guarded} ${open}`), ['identity'])
  t.same(rules(`${guarded} ${open.replace(';', `; ${include}`)}`), [])
  t.same(rules(`${guarded} location /b { fastcgi_pass unix:/of-others; }`), [])
  t.same(rules(guarded, open), [], 'another server')
  t.same(rules('location /a { auth_request /c; fastcgi_pass unix:/s; fastcgi_param; }'), [
    'identity',
  ])
  const proxied = include.replaceAll('fastcgi_param HTTP_', 'proxy_set_header ')
  const app = `location /a { auth_request /c; proxy_pass http://a:1/x; ${proxied} }`
  t.same(rules(`${app} location /b { proxy_pass http://a:1; }`), ['identity'])
  t.same(rules(`${app} location /b { proxy_pass http://a:2; }`), [])
  t.same(rules(`${app} location /b { proxy_pass http://a:1; proxy_pass_request_headers off; }`), [])
  t.end()
})

void t.test('a pattern that answers before a protected prefix', (t) => {
  const rules = (lines: string) =>
    findTraps(parseNginxDump(`# configuration file /n:\nhttp { server { ${lines} } }`))
      .map(({ rule }) => rule)
      .filter((rule) => rule === 'overtaken')
  const guarded = 'location /a/ { auth_request /c; root /r; }'
  const rows: [lines: string, found: boolean][] = [
    ['location ~ [.]php$ { root /r; }', true],
    ['location ~* [.]js$ { root /r; }', true],
    ['location ~ ^/a/x { root /r; }', true],
    ['location ~ ^/b/ { root /r; }', false],
    ['location ~^/a/x { root /r; }', true],
    ['location ~*^/b/ { root /r; }', false],
    ['location ~ [.]ht { deny all; }', false],
    ['location ~ [.]git { return 404; }', false],
    ['location ~ x { internal; }', false],
    ['location ~ x { auth_request /c; }', false],
    ['location /b/ { location ~ x { root /r; } }', false],
    ['location /a/b/ { root /r; }', false],
  ]
  for (const [lines, found] of rows)
    t.same(rules(`${guarded} ${lines}`), found ? ['overtaken'] : [], lines)
  t.same(rules(`${guarded.replace('/a/', '^~ /a/')} ${rows[0]?.[0]}`), [])
  t.end()
})

void t.test('a cache that hands on what one user was shown', (t) => {
  const rules = (lines: string) =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { proxy_cache site; location /a/ { auth_request /c; uwsgi_pass u; ${lines} } }`,
      ),
    ).map(({ rule }) => rule)
  t.notOk(rules('').includes('shared-cache'), 'a cache of another kind')
  t.ok(rules('uwsgi_cache site;').includes('shared-cache'))
  t.ok(rules('uwsgi_cache site; uwsgi_cache_key $request_uri;').includes('shared-cache'))
  t.notOk(rules('uwsgi_cache site; uwsgi_cache_key $uri$postern_user;').includes('shared-cache'))
  t.notOk(rules('uwsgi_cache off;').includes('shared-cache'))
  t.end()
})

void t.test("an origin of the site's own beside ours", (t) => {
  const rules = (lines: string) =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { server { add_header Access-Control-Allow-Origin *; location /a/ { auth_request /c; root /r; ${lines} } } }`,
      ),
    ).filter(({ rule }) => rule === 'cors-twice')
  const ours = 'add_header Access-Control-Allow-Origin $postern_allow_origin always; add_header;'
  t.same(rules(''), [], 'without the include it stands alone')
  t.same(rules(ours), [], 'what is said outside is not inherited')
  t.match(rules(`${ours} add_header access-control-allow-origin * always;`), [
    { state: 'warning', cure: /postern-local/ },
  ])
  t.end()
})

void t.test('a way around the check, by Upgrade or Connection', (t) => {
  const rules = (lines: string, open = '') =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { map $http_upgrade $mine { } server { location /a/ { auth_request /c; proxy_pass http://a; ${lines} } location /b/ { proxy_pass http://a/x; ${open} } location /o/ { proxy_pass http://other; proxy_set_header Upgrade $http_upgrade; } } }`,
      ),
    )
      .map(({ rule }) => rule)
      .filter((rule) => rule === 'tunnel')
  const line = (name: string, value: string) => `proxy_set_header ${name} ${value};`
  t.same(rules(''), [])
  t.same(rules(line('Upgrade', '$http_upgrade')), ['tunnel'])
  t.same(rules(line('upgrade', '${http_upgrade}')), ['tunnel'])
  t.same(rules(line('Connection', '$http_connection')), ['tunnel'])
  t.same(rules('', line('Upgrade', '$http_upgrade')), ['tunnel'], 'where it is open')
  t.same(rules(line('Upgrade', '$postern_upgrade')), [])
  t.same(rules(line('Connection', '$postern_connection')), [])
  t.same(rules(line('Connection', 'upgrade')), [], 'without Upgrade it says nothing')
  t.end()
})

void t.test('a check location with nothing set is wrong in every way', (t) => {
  const bare =
    '# configuration file /n:\nhttp { location = /c { rewrite ^ /check/$postern_resource? break; proxy_pass http://postern; } }'
  const rules = new Set(findTraps(parseNginxDump(bare)).map(({ rule }) => rule))
  for (const rule of [
    'check-internal',
    'check-body',
    'check-headers',
    'check-http',
    'check-timeout',
  ]) {
    t.ok(rules.has(rule), rule)
  }
  t.end()
})

void t.test('an event stream that a proxy keeps back', (t) => {
  const rules = (listen: string, server = '') =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { server { ${server} location @x { nchan_subscriber; ${listen} } } }`,
      ),
    ).filter(({ rule }) => rule === 'buffering')
  const front = 'set_real_ip_from 192.0.2.1;'
  t.same(rules(''), [], 'no proxy in front')
  t.match(rules('', front), [{ state: 'warning', cure: /postern-subscribe\.conf/ }])
  t.match(rules('add_header; add_header X-Other no;', front), [{ state: 'warning' }])
  t.same(rules('add_header X-Accel-Buffering $postern_accel_buffering;', front), [])
  t.match(rules('', 'proxy_ignore_headers Expires X-Accel-Buffering;'), [
    { state: 'warning', cure: /leave X-Accel-Buffering out/ },
  ])
  t.end()
})

void t.test('the end of a stream that is told behind a proxy', (t) => {
  const rules = (lines: string, server = 'set_real_ip_from 192.0.2.1;') =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { server { ${server} location = /told { ${lines} } location @x { nchan_unsubscribe_request /told; } } }`,
      ),
    ).filter(({ rule }) => rule === 'told-behind-proxy')
  t.match(rules('internal;'), [{ state: 'problem', cure: /real_ip_header proxy_protocol/ }])
  t.same(rules('real_ip_header proxy_protocol;'), [])
  t.same(rules('internal;', 'listen 80;'), [])
  t.same(rules('internal;', 'set_real_ip_from 192.0.2.1; real_ip_header proxy_protocol;'), [])
  t.end()
})

void t.test('an exemption that opens more than was meant', (t) => {
  const rules = (set: string, http = '') =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { ${http} server { location /a/ { auth_request /c; set $postern_exempt ""; ${set} root /r; } } }`,
      ),
    )
      .filter(({ rule }) => rule.startsWith('exempt'))
      .map(({ rule, state }) => `${state} ${rule}`)
  const office = 'set $postern_exempt $office;'
  const geo = (lines: string, from = '') => `geo ${from} $office { ${lines} }`
  const networks = 'default ""; 192.0.2.0/24 office; 2001:db8::/48 office;'
  const rows: [set: string, http: string, found: string[]][] = [
    ['', '', []],
    [office, geo(networks), []],
    [office, geo(networks, '$remote_addr'), []],
    [office, 'map $remote_addr $office { 192.0.2.1 office; }', []],
    [office, `${geo(networks)} map $x $other { default office; }`, []],
    [office, 'map $request_method $office { default ""; GET $of_a_network; }', []],
    ['set $postern_exempt "-";', '', []],
    ['set $postern_exempt office;', '', ['warning exempt-all']],
    [office, geo('default office;'), ['warning exempt-all']],
    [office, geo('0.0.0.0/0 office; ::/0 office;'), ['warning exempt-all']],
    [office, geo('default; 0.0.0.0/0 "";'), []],
    [office, 'map $remote_addr $office { default $of_a_network; }', []],
    [office, 'map $remote_addr $office { default office; }', ['warning exempt-all']],
    ['set $postern_exempt $http_x_office;', '', ['problem exempt-claimed']],
    ['if ($http_user_agent ~ probe) { set $postern_exempt "-"; }', '', ['problem exempt-claimed']],
    ['if ($http_user_agent ~ probe) { set $postern_exempt ""; }', '', []],
    ['if ($remote_addr = 192.0.2.1) { set $postern_exempt "-"; }', '', []],
    [office, geo(networks, '$http_x_forwarded_for'), ['problem exempt-claimed']],
    [office, 'map $http_user_agent $office { ~kube-probe probe; }', ['problem exempt-claimed']],
    [office, 'map $host $office { office.test office; }', ['problem exempt-claimed']],
    [office, geo(`proxy 0.0.0.0/0; ${networks}`), ['problem exempt-claimed']],
    [office, geo(`proxy 192.0.2.10; ${networks}`), []],
    [`${office} set $postern_exempt "";`, geo(networks), ['warning exempt-early']],
  ]
  for (const [set, http, found] of rows) t.same(rules(set, http), found, `${set} ${http}`)
  t.end()
})

void t.test('networks that may hold clients beside the proxy', (t) => {
  const rules = (network: string) =>
    findTraps(parseNginxDump(`# configuration file /n:\nhttp { set_real_ip_from ${network}; }`))
      .filter(({ rule }) => rule.startsWith('real-ip'))
      .map(({ rule }) => rule)
  const wide =
    '10.0.0.0/8 172.16.0.0/12 172.31.0.0/24 192.168.1.0/24 100.64.0.0/10 fd00::/8 FC00::/7'
  for (const network of wide.split(' ')) t.same(rules(network), ['real-ip-network'], network)
  const narrow =
    '10.0.0.1 10.0.0.1/32 fd00::1/128 127.0.0.0/8 172.32.0.0/16 100.128.0.0/9 173.245.48.0/20 unix: proxy.lan'
  for (const network of narrow.split(' ')) t.same(rules(network), [], network)
  t.same(rules('0.0.0.0/0'), ['real-ip'])
  t.end()
})

void t.test('a log of the location where a request ends', (t) => {
  const rules = (log: string) =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { log_format own $request; log_format postern $uri; server {
          access_log /l postern;
          location /a/ { auth_request /c; set $postern_accept "header ticket"; try_files /none @b; }
          location @b { ${log} } location @c { access_log /l own; } } }`,
      ),
    ).filter(({ rule }) => rule === 'log-format').length
  t.equal(rules(''), 0)
  t.equal(rules('access_log /l postern;'), 0)
  t.equal(rules('access_log /l own;'), 1)
  t.equal(rules('access_log /l;'), 1)
  t.end()
})
