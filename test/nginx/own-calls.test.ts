// 201 plays their own call in nginx and is refused another's: the shipped files, the real daemon, real bytes.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t from 'tap'

import { bearer, JSON_TYPE, startTestDaemon } from '../fixtures/daemon.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, RECORDINGS, type Reply, V1 } from './ask.ts'

const DAY = '2026/11/28'
const OF_201 = `${DAY}/out-+15551230202-201-20261128-101500-1795860900.12.wav`
const OF_202 = `${DAY}/internal-202-203-20261128-101501-1795860901.13.wav`
const MINE = `${DAY}/Anna 201.wav`

void t.test('own calls in nginx', { skip: nginxMissing() }, async (t) => {
  const folder = t.testdir({})
  for (const path of [OF_201, OF_202]) {
    mkdirSync(join(folder, dirname(path)), { recursive: true })
    writeFileSync(join(folder, path), `RIFF of ${path}`)
  }
  const daemon = await startTestDaemon(t, { sections: { calls: 'sources = ["names"]' } })
  const nginx = await startNginx(t, { postern: daemon.socket, recordings: folder })
  const get = (path: string, headers: Record<string, string>, query = ''): Promise<Reply> =>
    ask(nginx.port, `${RECORDINGS}/${encodeURI(path)}${query}`, { headers })
  const { access } = await daemon.softphone('201')
  const { access: admins } = await daemon.softphone('900')
  const ordered = await ask(nginx.port, `${V1}/auth/ticket`, {
    headers: { ...JSON_TYPE, ...bearer(access) },
    body: JSON.stringify({ action: 'read', resource: 'recordings/2026/**' }),
  })
  const { ticket } = JSON.parse(ordered.body) as { ticket: string }
  const proofs: readonly (readonly [headers: Record<string, string>, query: string])[] = [
    [bearer(access), ''],
    [{ Cookie: `postern=${access}` }, ''],
    [{}, `?ticket=${ticket}`],
  ]
  for (const [headers, query] of proofs) {
    t.match(await get(OF_201, headers, query), { status: 200, body: `RIFF of ${OF_201}` })
    const part = await get(OF_201, { ...headers, Range: 'bytes=0-3' }, query)
    t.match(part, { status: 206, body: 'RIFF' })
    for (const more of [{}, { Range: 'bytes=0-3' }]) {
      const other = await get(OF_202, { ...headers, ...more }, query)
      t.equal(other.status, 403)
      t.notMatch(other.body, /RIFF/)
    }
    // Folders that climb are resolved before anybody asks whose call it is.
    const climbing = await get(`${DAY}/../28/${OF_202.slice(DAY.length + 1)}`, headers, query)
    t.equal(climbing.status, 403)
  }
  t.equal((await get(OF_202, bearer(admins))).status, 200, 'who hears all')

  renameSync(join(folder, OF_201), join(folder, MINE))
  t.equal((await get(MINE, bearer(access))).status, 403, 'a renamed file is nobody’s')
  t.equal((await get(MINE, bearer(admins))).status, 200)
  t.equal((await get(OF_201, bearer(access))).status, 404, 'its old name is no longer there')
})
