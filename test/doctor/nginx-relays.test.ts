// A proxy of this nginx that makes a stranger look like a producer is found, and no other.

import t from 'tap'

import { parseNginxDump } from '../../src/doctor/nginx-config.ts'
import { findTraps } from '../../src/doctor/nginx-traps.ts'

const LOCAL = 'map $remote_addr $postern_local_peer { default ""; 127.0.0.1 1; ::1 1; unix: 1; }'
const publisher = (listen: string): string => `
  server {
    ${listen}
    location ^~ /v1/ {
      location ~ "^/v1/pub/(?<x>[a-z]+)\\z" {
        if ($postern_publisher = "") { return 403; }
        nchan_publisher;
      }
    }
  }`
const front = (pass: string, more = ''): string =>
  `server { listen 443 ssl; ${more} location / { ${pass} } }`

const find = (...parts: string[]) =>
  findTraps(
    parseNginxDump(`# configuration file /etc/nginx/nginx.conf:\nhttp {\n${parts.join('\n')}\n}\n`),
  ).filter(({ rule }) => rule === 'publisher-relayed')

void t.test('a front in the same nginx that says nothing of its clients', async (t) => {
  const rows: [listen: string, pass: string, more?: string][] = [
    ['listen 80;', 'proxy_pass http://127.0.0.1:80;'],
    ['listen 80;', 'proxy_pass http://127.0.0.1;'],
    ['listen 80;', 'proxy_pass http://localhost/;'],
    ['listen [::]:80;', 'proxy_pass http://[::1]/x;'],
    ['listen 127.0.0.1:8080;', 'proxy_pass http://127.0.0.1:8080;'],
    ['listen 127.0.0.1;', 'proxy_pass http://127.0.0.1:80;'],
    ['listen 8080; listen unix:/x;', 'proxy_pass http://back;', 'keepalive_timeout 1s;'],
    ['listen 80;', 'proxy_pass http://127.0.0.1; proxy_set_header Host $host;'],
    // Lines of the server {} do not count once the location has any.
    [
      'listen 80;',
      'proxy_pass http://127.0.0.1; proxy_set_header Host $host;',
      'proxy_set_header X-Forwarded-For $remote_addr;',
    ],
  ]
  for (const [listen, pass, more] of rows) {
    const back = 'upstream back { server 192.0.2.1:1; server 127.0.0.1:8080; }'
    const found = find(LOCAL, back, publisher(listen), front(pass, more))
    t.match(
      found,
      [{ rule: 'publisher-relayed', state: 'problem', where: /nginx\.conf:\d+$/ }],
      pass,
    )
    t.equal(found.length, 1, pass)
  }
})

void t.test(
  'what tells, what reaches nothing, and where nobody is believed by address',
  async (t) => {
    const open = publisher('listen 80;')
    const pass = front('proxy_pass http://127.0.0.1;')
    const tells = 'proxy_set_header X-Forwarded-For $remote_addr;'
    const rows: [what: string, ...parts: string[]][] = [
      ['a front that tells', LOCAL, open, front(`proxy_pass http://127.0.0.1; ${tells}`)],
      ['one that inherits it', LOCAL, open, front('proxy_pass http://127.0.0.1;', tells)],
      ['of the whole http {}', 'proxy_set_header X-Real-IP $remote_addr;', LOCAL, open, pass],
      ['another port', LOCAL, open, front('proxy_pass http://127.0.0.1:8080;')],
      ['another machine', LOCAL, open, front('proxy_pass http://192.0.2.1;')],
      ['a variable', LOCAL, open, front('proxy_pass http://$x;')],
      ['a unix socket', LOCAL, open, front('proxy_pass http://unix:/x:/;')],
      ['publishing over a unix socket', LOCAL, publisher('listen unix:/x;'), pass],
      ['no address is believed', LOCAL.replace('127.0.0.1 1; ::1 1;', ''), open, pass],
      ['no channels', LOCAL, pass],
      ['a publisher of another kind', LOCAL, 'server { location /x { nchan_publisher; } }', pass],
    ]
    for (const [what, ...parts] of rows) t.same(find(...parts), [], what)
  },
)
