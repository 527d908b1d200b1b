import t from 'tap'

import { parseRedisUrl } from '../../../src/store/redis/address.ts'

void t.test('every form of url says where and as whom', (t) => {
  const nobody = { username: undefined, password: undefined, tls: false }
  const local = { host: '127.0.0.1', port: 6379 }
  const cases = [
    ['redis://127.0.0.1', { kind: 'server', ...nobody, nodes: [local], database: 0 }],
    ['redis://[::1]:7000/3', { nodes: [{ host: '::1', port: 7000 }], database: 3 }],
    [
      'rediss://redis.example.org',
      { tls: true, nodes: [{ host: 'redis.example.org', port: 6379 }] },
    ],
    ['redis://me:p%40ss%3A@127.0.0.1/', { username: 'me', password: 'p@ss:', database: 0 }],
    ['redis://:only@127.0.0.1', { username: undefined, password: 'only' }],
    ['redis://me@127.0.0.1', { username: 'me', password: undefined }],
    ['unix:///run/redis.sock', { kind: 'socket', path: '/run/redis.sock', database: 0 }],
    ['unix://me:x@/run/r.sock?database=2', { username: 'me', path: '/run/r.sock', database: 2 }],
    [
      'rediss+sentinel://a,b:1/main/2',
      { kind: 'sentinel', tls: true, primary: 'main', database: 2, nodes: [{ port: 26_379 }, {}] },
    ],
    ['redis+sentinel://a/main', { kind: 'sentinel', primary: 'main', database: 0 }],
  ] as const
  for (const [url, expected] of cases) t.match(parseRedisUrl(url), expected, url)
  t.end()
})

void t.test('what is no such url is refused with the forms there are, and never repeated', (t) => {
  const cases = [
    ['', /not understood/],
    ['http://hunter2', /not understood/],
    ['redis://', /no host and port/],
    ['redis://hunter2:0', /no host and port/],
    ['redis://hunter2:65536', /no host and port/],
    ['redis://a,hunter2', /several hosts/],
    ['redis://a/hunter2', /no number for its database/],
    ['redis://a?database=1', /only after a socket/],
    ['redis://x:hunter2%@a', /%25/],
    ['unix://hunter2/run/x', /no socket/],
    ['unix:///', /no socket/],
    ['unix+sentinel:///hunter2', /no socket/],
    ['redis+cluster://hunter2', /not understood/],
    ['redis+sentinel://hunter2', /no primary/],
    ['redis+sentinel://a/main/1/hunter2', /no primary/],
  ] as const
  for (const [url, message] of cases) {
    t.throws(() => parseRedisUrl(url), { name: 'StoreError', code: 'unavailable', message }, url)
    t.throws(() => parseRedisUrl(url), { message: /rediss:\/\/… for TLS/ })
    try {
      parseRedisUrl(url)
    } catch (error) {
      t.notMatch(String(error), /hunter2/, url)
    }
  }
  t.end()
})

void t.test('its label has no credentials', (t) => {
  t.equal(parseRedisUrl('redis://me:hunter2@a:1/2').label, 'redis://a:1/2')
  t.equal(parseRedisUrl('unix://me:hunter2@/run/x').label, 'unix:///run/x')
  t.equal(parseRedisUrl('rediss+sentinel://me:hunter2@a,b/m').label, 'rediss+sentinel://a,b/m')
  t.end()
})
