// README on fresh Debians, by whoever reads it: root or somebody with sudo, whatever the umask. CI tells two of the
// eight, which have each of the differences; `script/test --fresh` all of them.
import t from 'tap'

import { freshMissing, type Reader, type Release, RELEASES } from './root.ts'
import { LIMIT, tellReadme } from './story.ts'

const MASKS = ['022', '077'] as const
const all = RELEASES.flatMap((release) =>
  (['root', 'admin'] as const).flatMap((user) =>
    MASKS.map((umask): [Release, Reader] => [release, { user, umask }]),
  ),
)
const pair: typeof all = [
  ['bookworm', { user: 'root', umask: '077' }],
  ['trixie', { user: 'admin', umask: '022' }],
]

const asked = process.env['POSTERN_FRESH']
const isCi = process.env['CI'] === 'true' && asked !== 'inside'
const reasonToSkip = (): string | false => {
  if (asked === 'inside')
    return 'a root holds no other: an overlay cannot lie on its disk, which is one'
  if (!isCi && asked !== 'all') return 'minutes in fresh Debians: script/test --fresh'
  const obstacle = freshMissing()
  if (obstacle !== undefined) throw new Error(obstacle)
  return false
}
const skip = reasonToSkip()

t.setTimeout(all.length * LIMIT)
t.jobs = 2
for (const [release, reader] of asked === 'all' ? all : pair) {
  const name = `${release} as ${reader.user} with umask ${reader.umask}`
  void t.test(name, { skip, buffered: true, timeout: 2 * LIMIT }, (t) =>
    tellReadme(t, release, reader),
  )
}
