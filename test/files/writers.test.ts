// Whether every user of the host can write a file, or put another in its place.

import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { findWriters } from '../../src/files/writers.ts'

void t.test('by its mode, and by that of its folder', async (t) => {
  const folder = join(t.testdir(), 'etc')
  mkdirSync(folder)
  const file = join(folder, 'users')
  writeFileSync(file, 'x')
  const rows: [folder: number, file: number, due: RegExp | undefined][] = [
    [0o755, 0o644, undefined],
    [0o755, 0o640, undefined],
    [0o755, 0o664, undefined],
    [0o1777, 0o600, undefined],
    [0o775, 0o644, undefined],
    [0o755, 0o666, /users: has mode 666: .* chmod o-w .*\/users$/],
    [0o755, 0o662, /users: has mode 662: /],
    [0o700, 0o602, /users: has mode 602: /],
    [0o1777, 0o646, /users: has mode 646: /],
    [0o777, 0o600, /users: .*in its place; .* chmod o-w .*\/etc$/],
    [0o757, 0o640, /in its place/],
  ]
  for (const [folderMode, mode, due] of rows) {
    chmodSync(folder, folderMode)
    chmodSync(file, mode)
    const found = findWriters(file, statSync(file).mode)
    const what = `${folderMode.toString(8)} ${mode.toString(8)}`
    if (due === undefined) t.equal(found, undefined, what)
    else t.match(found, due, what)
  }
})

void t.test('a device or a pipe is no file that anybody wrote', async (t) => {
  t.equal(findWriters('/dev/null', statSync('/dev/null').mode), undefined)
})
