import t from 'tap'

import { parseNginxDump, walk } from '../../src/doctor/nginx-config.ts'

const shape = (dump: string): unknown => {
  const show = (directives: ReturnType<typeof parseNginxDump>): unknown =>
    directives.map(({ name, args, block }) => [name, ...args, ...(block ? [show(block)] : [])])
  return show(parseNginxDump(dump))
}

const file = (text: string, name = '/etc/nginx/nginx.conf'): string =>
  `# configuration file ${name}:\n${text}\n`

void t.test(
  'directives, blocks, quotes, comments and variables are read as nginx reads them',
  (t) => {
    const rows: readonly (readonly [string, unknown])[] = [
      ['user www-data;', [['user', 'www-data']]],
      ['events { }', [['events', []]]],
      ['a b # c; d\n;', [['a', 'b']]],
      ['# only a comment', []],
      ['set $x\u00a0y\f z;', [['set', '$x\u00a0y\f', 'z']]],
      [String.raw`log "a \"b\" c" 'd "e" f';`, [['log', 'a "b" c', 'd "e" f']]],
      ['set $x "${y}z;{";', [['set', '$x', '${y}z;{']]],
      ['set $x ${y}z;', [['set', '$x', '${y}z']]],
      ['log "over\ntwo lines";', [['log', 'over\ntwo lines']]],
      [
        'location ~ "^/a{1,2}\\z" { return 1; }',
        [['location', '~', '^/a{1,2}\\z', [['return', '1']]]],
      ],
      ['rewrite ^/(.*)\\.x$ /$1;', [['rewrite', '^/(.*)\\.x$', '/$1']]],
      ['http { server { listen 80; } }', [['http', [['server', [['listen', '80']]]]]]],
    ]
    for (const [text, expected] of rows) t.same(shape(file(text)), expected, text)
    t.end()
  },
)

void t.test('includes are put in where they stand, by name, pattern or relative path', (t) => {
  const dump =
    file('http {\n include conf.d/*.conf;\n include /srv/x.conf; include gone.conf; }') +
    file('a;', '/etc/nginx/conf.d/one.conf') +
    file('b;', '/etc/nginx/conf.d/two.conf') +
    file('no;', '/etc/nginx/conf.d/deeper/three.conf') +
    file('c;\n\nd {\n e;\n}', '/srv/x.conf')
  t.same(shape(file('include;')), [])
  t.same(shape(dump), [['http', [['a'], ['b'], ['c'], ['d', [['e']]]]]])
  const places = Array.from(walk(parseNginxDump(dump)), ({ directive, around }) => [
    `${directive.file}:${directive.line}`,
    ...around.map(({ name }) => name),
  ])
  t.same(places.at(-1), ['/srv/x.conf:4', 'd', 'http'])
  t.end()
})

void t.test('a long word costs little', (t) => {
  const word = '${x'.repeat(20_000)
  const began = performance.now()
  t.same(shape(file(`set $x ${word}}z;`)), [['set', '$x', `${word}}z`]])
  t.ok(performance.now() - began < 1000)
  t.end()
})

void t.test('a file that includes itself ends, and text that is no dump is nothing', (t) => {
  t.ok(parseNginxDump(file('include nginx.conf; a;')).length > 0)
  t.same(shape('# configuration file /n:\na; # no line end'), [['a']])
  t.same(shape('# configuration file /n:\na; b \\'), [['a']])
  t.same(parseNginxDump('hello'), [])
  t.same(parseNginxDump(file('a { b;')), parseNginxDump(file('a { b; }')))
  t.end()
})
