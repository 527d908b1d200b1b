// A fresh root for a developer's own look, with a clone of the committed tree set up as README says: also for the
// whole of script/test, which takes too long there to be run by itself: --run 'CI=true script/test'.
//   node test/fresh/main.ts --root bookworm|trixie [--user] [--umask 022|077] [--bare] [--run COMMAND]
// --user: as somebody with sudo, not as root. --bare: nothing but the root; the clone's bundle is in /srv.
import { parseArgs } from 'node:util'

import { inlineUnder } from './readme.ts'
import { bootFresh, bundleSource, freshMissing, makeFolder, RELEASES } from './root.ts'

const { values } = parseArgs({
  options: {
    root: { type: 'string', default: 'bookworm' },
    user: { type: 'boolean', default: false },
    umask: { type: 'string', default: '022' },
    bare: { type: 'boolean', default: false },
    run: { type: 'string', default: 'bash -i' },
  },
})
const release = RELEASES.find((name) => name === values.root)
const umask = (['022', '077'] as const).find((mask) => mask === values.umask)
const obstacle =
  release === undefined || umask === undefined
    ? 'usage: node test/fresh/main.ts --root bookworm|trixie [--user] [--umask 022|077] [--bare] [--run COMMAND]'
    : freshMissing()
if (obstacle !== undefined || release === undefined || umask === undefined) {
  console.error(`fresh: ${obstacle}`)
  process.exit(64)
}

const { folder } = makeFolder()
const root = await bootFresh(
  release,
  { user: values.user ? 'admin' : 'root', umask },
  { 'srv/postern.bundle': bundleSource(folder) },
)
const sudo = values.user ? 'sudo ' : ''
const prepare = `set -e
${sudo}apt-get update
${sudo}${inlineUnder('## Two commands', 'apt install')} <<<y
git clone --quiet -c advice.detachedHead=false /srv/postern.bundle postern`
const prepared = values.bare ? 0 : await root.show(prepare)
const command = `${values.bare ? '' : 'cd postern\n'}export POSTERN_FRESH=inside\n${values.run}`
const status = prepared === 0 ? await root.show(command) : prepared
root.stop()
process.exit(status)
