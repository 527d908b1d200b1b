// Root in folders of others: as whom it works, and that it is root again.

import { spawnSync } from 'node:child_process'
import { chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { asOwner } from '../../src/files/owner.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

const SERVICE = 65_533
const OTHER = 65_532

/** A folder of root's, with one of the service's in it. */
const makeFolders = (t: Test) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-owner-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const at = (...names: string[]) => join(folder, ...names)
  for (const name of ['root', 'service', 'service/other', 'service/root']) mkdirSync(at(name))
  chownSync(at('service'), SERVICE, 0)
  chownSync(at('service/other'), OTHER, OTHER)
  return at
}

const link = (to: string, from: string, owner: number): void => {
  symlinkSync(to, from)
  spawnSync('chown', ['-h', String(owner), from])
}

const who = () => [process.geteuid?.(), process.getegid?.(), process.getgroups?.()]

void t.test(
  'root works as whoever could have put there what it finds',
  needs(isRoot, 'only root can become the owner'),
  async (t) => {
    const at = makeFolders(t)
    link(at('root'), at('service/link'), SERVICE)
    link(at('service/other'), at('root/link'), 0)
    link('../root/link/x', at('root/chain'), 0)
    link('loop', at('root/loop'), 0)
    writeFileSync(at('root/file'), '')
    chownSync(at('root/file'), SERVICE, SERVICE)
    const nogroup = [SERVICE, 65_534, [65_534]]
    const cases: readonly (readonly [string, readonly unknown[] | undefined])[] = [
      ['root/x', undefined],
      ['root/nowhere/x', undefined],
      ['root/file', undefined],
      ['root/file/x', undefined],
      ['root/loop', undefined],
      ['service/x', nogroup],
      ['service/nowhere/x', nogroup],
      ['service/link', nogroup],
      ['service/link/x', nogroup],
      ['service/other/x', [OTHER, OTHER, [OTHER]]],
      ['service/other/../x', nogroup],
      ['service/root/x', undefined],
      ['root/link/x', [OTHER, OTHER, [OTHER]]],
      ['root/chain', [OTHER, OTHER, [OTHER]]],
    ]
    const before = who()
    for (const [path, expected = before] of cases) {
      t.same(await asOwner(at(path), who), expected, path)
      t.same(who(), before, 'and is root again')
    }
    t.same(await asOwner(at('root/file'), who, true), [SERVICE, SERVICE, [SERVICE]], 'believed')
    t.same(await asOwner(at('root/x'), who, true), before)
    const inner = await asOwner(at('service/x'), () => asOwner(at('service/other/x'), who))
    t.same(inner, nogroup, 'and becomes nobody else on the way')
    await t.rejects(
      asOwner(at('service/x'), () => Promise.reject(new Error('no'))),
      /no/,
    )
    t.same(who(), before)
    const here = process.cwd()
    process.chdir(at('service'))
    t.same(await asOwner('x', who), nogroup)
    process.chdir(here)
  },
)
