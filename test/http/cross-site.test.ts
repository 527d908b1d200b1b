// Which requests are our own pages’, and which another site’s. A table of what browsers send.

import t from 'tap'

import { isCrossSite } from '../../src/http/cross-site.ts'
import { readHeaders } from '../../src/http/headers.ts'

const HERE = ['X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'pbx.example']

void t.test('our own pages, and what no page can make a browser send', (t) => {
  const rows: Record<string, string[]> = {
    'neither header: curl, scripts': [],
    'a same-origin fetch': ['Sec-Fetch-Site', 'same-origin'],
    'typed into the address bar': ['Sec-Fetch-Site', 'none'],
    'our origin': [...HERE, 'Origin', 'https://pbx.example'],
    both: [...HERE, 'Origin', 'https://pbx.example', 'Sec-Fetch-Site', 'same-origin'],
    'our origin with its port': [
      'X-Forwarded-Proto',
      'http',
      'X-Forwarded-Host',
      'localhost:8080',
      'Origin',
      'http://localhost:8080',
    ],
  }
  for (const [what, lines] of Object.entries(rows)) t.notOk(isCrossSite(readHeaders(lines)), what)
  t.end()
})

void t.test('everything else is another site', (t) => {
  const origin = (value: string): string[] => [...HERE, 'Origin', value]
  const rows: Record<string, string[]> = {
    'cross-site': ['Sec-Fetch-Site', 'cross-site'],
    'another host of the same site': ['Sec-Fetch-Site', 'same-site'],
    'a word of tomorrow': ['Sec-Fetch-Site', 'same-party'],
    'another case': ['Sec-Fetch-Site', 'Same-Origin'],
    empty: ['Sec-Fetch-Site', ''],
    'said twice': ['Sec-Fetch-Site', 'none', 'Sec-Fetch-Site', 'none'],
    'the foreign one counts': [...origin('https://evil.example'), 'Sec-Fetch-Site', 'same-origin'],
    null: origin('null'),
    'another scheme': origin('http://pbx.example'),
    'another port': origin('https://pbx.example:8443'),
    'a longer name': origin('https://pbx.example.evil'),
    'a prefix': origin('https://pbx.exampl'),
    'a dot that is no dot': origin('https://pbxXexample'),
    'a path behind': origin('https://pbx.example/'),
    userinfo: origin('https://pbx.example@evil'),
    'another case of the host': origin('https://PBX.example'),
    'two origins in one line': origin('https://pbx.example https://evil.example'),
    'Origin twice': [...origin('https://pbx.example'), 'Origin', 'https://pbx.example'],
    'nginx names no host': ['X-Forwarded-Proto', 'https', 'Origin', 'https://pbx.example'],
    'nginx names no scheme': ['X-Forwarded-Host', 'pbx.example', 'Origin', 'https://pbx.example'],
    'Host is not looked at': [
      'Host',
      'pbx.example',
      'X-Forwarded-Proto',
      'https',
      'Origin',
      'https://pbx.example',
    ],
    'the host said twice': [...origin('https://pbx.example'), 'X-Forwarded-Host', 'evil'],
  }
  for (const [what, lines] of Object.entries(rows)) t.ok(isCrossSite(readHeaders(lines)), what)
  t.end()
})
