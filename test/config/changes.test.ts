// Which settings a reload leaves to a restart.
import t from 'tap'

import { findRestartOnly } from '../../src/config/changes.ts'
import { parseConfig } from '../../src/config/load.ts'

const config = (text: string) => parseConfig(text, 'postern.toml')
const found = (before: string, after: string): string[] =>
  findRestartOnly(config(before), config(after))

void t.test('a change is named where it needs a restart', async (t) => {
  const table: [what: string, before: string, after: string, names: string[]][] = [
    ['nothing', '', '', []],
    ['a default, written out', '', '[listen]\nhttp = "unix:/run/postern/http.sock"', []],
    ['another socket', '', '[listen]\nhttp = "unix:/run/x.sock"', ['listen.http']],
    ['a port', '', '[listen]\noperator = "127.0.0.1:9"', ['listen.operator']],
    ['and back', '[state]\ndirectory = "/x"', '', ['state.directory']],
    ['what a reload takes', '', '[log]\nlevel = "debug"\n[softphone]\naccess_ttl = 60', []],
    ['new grants', '', '[roles.user]\ngrants = []', []],
    [
      'several, in the order of the settings',
      '',
      '[users]\nfile = "/x"\n[tokens]\nissuer = "x"\n[listen]\npublic = true',
      ['listen.public', 'users.file'],
    ],
  ]
  for (const [what, before, after, names] of table) t.same(found(before, after), names, what)
})
