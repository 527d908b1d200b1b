// Each file alone, each left out, all together, and beside the sites of others: nginx takes it without a warning.
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { type NginxOptions, nginxMissing, testNginx } from '../fixtures/nginx.ts'
import { readmeSite } from './readme-site.ts'
import { passOn } from './several.ts'

const POSTERN = '/run/elsewhere/http.sock'
const OPTIONAL = ['softphone', 'mikopbx', 'recordings', 'sip', 'page', 'pass-on']
const HTTP = 'include postern/postern-local.conf;\ninclude postern/postern-http.conf;\n'
const PROTECTED = `
    location ^~ /app/ {
        set $postern_action read;
        set $postern_resource app;
        set $postern_accept header;
        include postern/postern-protect.conf;
        proxy_pass http://127.0.0.1:8080;
    }
`

const server = (names: readonly string[], more = ''): string => `
server {
    listen 80;
    include postern/postern-server.conf;
${names.map((name) => `    include postern/postern-${name}.conf;\n`).join('')}${more}}
`

/** The whole site of somebody, instead of ours. */
const site = (text: string): NonNullable<NginxOptions['site']> => [[/^[^]*$/, text]]

const takes = (t: Test, what: string, options: Omit<NginxOptions, 'postern'>): void => {
  const { status, text } = testNginx(t, { postern: POSTERN, ...options })
  t.equal(status, 0, `${what}: ${text}`)
  t.notMatch(text, /warn|emerg/, what)
}

void t.test('what is included', { skip: nginxMissing() }, async (t) => {
  void t.test('each file alone, each left out, with and without a location of its own', (t) => {
    const { local: hosts } = passOn(9480, 9481)
    const choices = [
      [],
      ...OPTIONAL.map((name) => [name]),
      ...OPTIONAL.map((name) => OPTIONAL.filter((other) => other !== name)),
      OPTIONAL,
    ]
    for (const names of choices) {
      const local = names.includes('pass-on') ? hosts : []
      for (const more of ['', PROTECTED])
        takes(t, names.join(' ') + more, { local, site: site(HTTP + server(names, more)) })
    }
    t.end()
  })

  void t.test('the files for a location, open to everyone, where nothing is protected', (t) => {
    const locations = ['fastcgi', 'uwsgi', 'scgi', 'grpc'].map(
      (kind) =>
        `location /${kind}/ { ${kind}_pass 127.0.0.1:1; include postern/postern-${kind}.conf; }`,
    )
    const proxied =
      'location /p/ { proxy_pass http://127.0.0.1:1; include postern/postern-identity.conf; include postern/postern-headers.conf; }'
    for (const location of [...locations, proxied])
      takes(t, location, { site: site(HTTP + server([], location)) })
    t.end()
  })

  void t.test("README's site of one's own", (t) => {
    takes(t, 'README', { site: site(readmeSite()) })
    t.end()
  })

  void t.test('two servers with the same files', (t) => {
    const other = server(OPTIONAL.slice(0, 5), PROTECTED).replace('80;', '80;\n    server_name b;')
    takes(t, 'two', { site: site(HTTP + server(OPTIONAL.slice(0, 5), PROTECTED) + other) })
    t.end()
  })

  // Written as Debian's nginx.conf and its default site, and as people write theirs.
  const OTHERS = `
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" $status';
    limit_req_zone $binary_remote_addr zone=login:1m rate=1r/s;
    limit_conn_zone $binary_remote_addr zone=connections:1m;
    map $http_upgrade $connection_upgrade { default upgrade; "" close; }
    map $http_user_agent $is_robot { default 0; "~*bot" 1; }
    upstream backend { server 127.0.0.1:8080; keepalive 8; }
    server {
        listen 127.0.0.1:1 default_server;
        root /var/www/html;
        index index.html;
        server_name _;
        access_log /dev/null main;
        location / { limit_req zone=login; try_files $uri $uri/ =404; }
    }
`
  const maps = (count: number): string =>
    Array.from(
      { length: count },
      (_, at) => `map $uri $of_another_site_${at} { default ""; }`,
    ).join('\n')

  void t.test("the example site beside other people's", (t) => {
    takes(t, 'sites', { http: OTHERS })
    for (const count of [2, 20, 100]) takes(t, `${count} maps`, { http: OTHERS + maps(count) })
    takes(t, 'a cache', {
      http: `${OTHERS}proxy_cache_path ${t.testdir({})}/cache keys_zone=site:1m; proxy_cache site; proxy_cache_valid any 1m;`,
    })
    takes(t, 'its own size of the hash', {
      local: [['variables_hash_max_size 8192;', '']],
      http: `${OTHERS}variables_hash_max_size 16384; variables_hash_bucket_size 128;`,
    })
    t.end()
  })

  void t.test('a long origin, as the comment says', (t) => {
    const origin = String.raw`"~^https://softphone\.a-branch\.of-a-company-with-a-long-name\.example\.com$"`
    takes(t, origin, { origins: [origin] })
    t.end()
  })
})

// nginx takes a map's variable over for the capture: the map's is empty in every location from then on, without a word. (A map of "" says no more than that.)
void t.test('no capture is called as a map is', (t) => {
  const folder = join(import.meta.dirname, '..', '..', 'nginx')
  const text = globSync('*.conf', { cwd: folder })
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n')
  const names = (pattern: RegExp): string[] =>
    Array.from(text.matchAll(pattern), ([, name = '']) => name)
  const captures = new Set(names(/\(\?<([a-z_]+)>/g))
  const mapped = names(/^\s*#?\s*(?:map|geo|split_clients)\b(?! "")[^{]*\$([a-z_]+) \{/gm)
  t.ok(captures.size > 0 && mapped.length > 0)
  t.strictSame(
    mapped.filter((name) => captures.has(name)),
    [],
  )
  t.end()
})
