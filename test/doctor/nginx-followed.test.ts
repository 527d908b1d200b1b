// A location that is followed, in each of the ways in which its connection is not its own, or in which a cut leaves a
// credential in a log.

import t from 'tap'

import { parseNginxDump } from '../../src/doctor/nginx-config.ts'
import { findTraps } from '../../src/doctor/nginx-traps.ts'

void t.test('what is followed', (t) => {
  const rules = (lines: string, listen = '', protectedBy = 'auth_request /c;') =>
    findTraps(
      parseNginxDump(
        `# configuration file /n:\nhttp { server { ${listen} location /a/ { ${protectedBy} ${lines} } } }`,
      ),
    )
      .filter(({ rule }) => /follow|uncuttable/.test(rule))
      .map(({ rule, state }) => `${state} ${rule}`)
  const include = 'set $postern_followed $postern_follow; set $postern_follow "";'
  const on = `set $postern_follow on; ${include}`
  const connect = 'set $postern_action connect;'
  const alone = 'keepalive_timeout 0;'
  const pass = 'proxy_pass http://a;'
  const query = 'set $postern_accept "header query";'
  const rows: [lines: string, found: string[]][] = [
    ['', []],
    [include, []],
    [`set $postern_follow off; ${include}`, []],
    [`${on} ${alone}`, []],
    [`${on} keepalive_timeout 0s;`, []],
    [on, ['problem followed-keepalive']],
    [`${connect} keepalive_timeout 5s;`, ['problem followed-keepalive']],
    ['set $postern_action subscribe;', ['problem followed-keepalive']],
    ['set $postern_action read;', []],
    [`${include} set $postern_follow on;`, ['problem follow-late', 'problem followed-keepalive']],
    [`set $postern_follow on; ${alone}`, ['problem follow-late']],
    [`${connect} ${alone} ${query}`, ['problem followed-log']],
    [`${connect} ${alone} ${query} error_log /l;`, ['problem followed-log']],
    [`${connect} ${alone} ${query} error_log /l alert;`, ['problem followed-log']],
    [`${connect} ${alone} ${query} error_log /l emerg;`, []],
    [`${connect} ${alone} ${query} error_log /dev/null;`, []],
    [`${connect} ${alone} set $postern_accept ticket;`, ['problem followed-log']],
    ['nchan_subscriber;', ['problem followed-log']],
  ]
  for (const [lines, found] of rows) t.same(rules(lines), found, lines)
  t.same(rules(`${connect} ${query}`, '', ''), [], 'where nobody is asked')
  const shows = `${connect} ${alone} ${query} error_log /dev/null emerg;`
  const led = (lines: string, backend: string, beside = '') =>
    rules(`${shows} ${lines}`, `${beside} location @backend { ${backend} ${pass} }`)
  const log = 'error_log /l emerg;'
  t.same(led('', ''), [], 'nothing leads there')
  t.same(led('try_files /none @backend;', log), [])
  t.same(led('try_files /none @backend;', ''), ['problem followed-log'])
  t.same(led('error_page 404 = @backend;', 'error_log /l;'), ['problem followed-log'])
  t.same(
    led('try_files /none @backend;', log, 'location @backend { } } server {'),
    [],
    'another server has its own',
  )
  const away = (lines: string, file: string) =>
    rules(`${shows} ${lines}`, `location @away { root /w; ${file} }`)
  t.same(away('error_page 502 504 = @away;', 'try_files /away.html =503;'), [], 'a short page')
  t.same(away('try_files $uri @away;', ''), ['problem followed-log'], 'a file may be long')
  const inServer = 'set $postern_follow on; error_log /l;'
  t.same(rules(include, inServer), ['problem followed-keepalive'])
  t.same(rules(include, `${inServer} keepalive_timeout 0;`), [])
  t.same(rules(`${include} ${query}`, `${inServer} keepalive_timeout 0;`), ['problem followed-log'])
  t.same(rules(`set $postern_follow off; ${include}`, inServer), [], 'switched off')
  t.same(rules(`set $postern_follow ""; ${include}`, inServer), [], 'and by nothing')
  t.same(
    rules(`set $postern_follow on; set $postern_follow off; ${include}`),
    [],
    'the last counts',
  )
  for (const late of [`${include} set $postern_follow off;`, `${on} set $postern_follow off;`])
    t.same(rules(late, inServer), ['problem followed-keepalive'], `nothing is off by ${late}`)
  const open = `${connect} ${alone} ${pass}`
  t.same(rules(open, 'listen 80; listen [::]:443 ssl;'), [])
  t.same(rules(open, 'listen 80; listen unix:/s;'), ['warning uncuttable'])
  t.same(rules(open, 'listen 443 quic reuseport;'), ['warning uncuttable'])
  t.same(rules(`${connect} ${alone}`, 'listen unix:/s;'), [], 'Nchan’s are kicked')
  t.end()
})
