// pjsip.conf with pjsip_wizard.conf beside it, in real files. What Asterisk makes of them: asterisk-corpus.test.ts.
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadAsteriskConfig } from '../../src/users/asterisk-config.ts'

const WIZARD =
  '[201]\ntype=wizard\naccepts_registrations=yes\naccepts_auth=yes\ninbound_auth/username=201\n'

const load = async (t: Test, files: Record<string, string>) => {
  const folder = t.testdir(files)
  const config = await loadAsteriskConfig(join(folder, 'pjsip.conf'))
  return { folder, config, names: config.sections.map(({ name }) => name) }
}

void t.test('a wizard that comes later, changes and goes is seen', async (t) => {
  const { folder, config, names } = await load(t, { 'pjsip.conf': '[202]\ntype=auth\n' })
  t.same([names, config.problems], [['202'], []])
  let { mark } = config
  t.equal(await config.readMark(), mark)
  const file = join(folder, 'pjsip_wizard.conf')
  for (const change of [
    () => writeFileSync(file, WIZARD),
    () => writeFileSync(file, `${WIZARD}# more\n`),
    () => rmSync(file),
  ]) {
    change()
    const now = await config.readMark()
    t.not(now, mark)
    mark = now
  }
})

void t.test('what pjsip.conf says comes before what a wizard makes', async (t) => {
  const { names } = await load(t, {
    'pjsip.conf': '[201-iauth]\ntype=auth\n[x](!)\ntype=endpoint\n',
    'pjsip_wizard.conf': WIZARD,
  })
  t.same(names, ['201-iauth', 'x', '201', '201'])
})

void t.test('a wizard that is not whole is told with its place', async (t) => {
  const { config } = await load(t, {
    'pjsip.conf': '',
    'pjsip_wizard.conf': `${WIZARD}[202]\ntype=wizard\nsends_auth=yes\noutbound_auth/password=hunter2\n`,
  })
  t.match(config.warnings, [
    /pjsip_wizard\.conf:6: the wizard \[202\] has no outbound_auth\/username/,
    /pjsip_wizard\.conf:6: the wizard \[202\] has no remote_hosts/,
  ])
  t.notMatch(config.warnings.join(), /hunter/)
  const broken = await load(t, { 'pjsip.conf': '', 'pjsip_wizard.conf': '[201\n' })
  t.match([broken.config.problems, broken.config.warnings], [[], [/pjsip_wizard\.conf:1: /]])
})

void t.test('two sections of one name and type', async (t) => {
  const { config } = await load(t, {
    'pjsip.conf':
      '[a]\ntype=auth\n[a]\ntype=aor\n[a]\ntype=aor\n[A]\ntype=auth\n[x](!)\ntype=auth\n',
  })
  t.same(config.problems, [])
  t.match(config.warnings, [/:5: \[a\] of type aor stands there twice, .*: rename one/])
})

void t.test('no file, and a folder for a file', async (t) => {
  const folder = t.testdir({ d: {} })
  t.match((await loadAsteriskConfig(join(folder, 'none.conf'))).problems, [
    /none\.conf: cannot be read \(ENOENT\): correct the name, or add/,
  ])
  t.match((await loadAsteriskConfig(join(folder, 'd'))).problems, [/d: is no file: name a file/])
})

void t.test('thousands are read in slices, between which others are served', async (t) => {
  const list = (make: (n: number) => string): string =>
    Array.from({ length: 2500 }, (_, n) => make(n)).join('')
  const files = {
    'pjsip.conf': list((n) => `[${n}]\ntype=auth\nusername=${n}\n`),
    'pjsip_wizard.conf': `${WIZARD}[t](!)\ntype=wizard\n${list((n) => `[w${n}](t)\naccepts_registrations=yes\n`)}`,
  }
  let turns = 0
  let isOver = false
  const count = (): void => {
    if (!isOver) setImmediate(count)
    turns++
  }
  setImmediate(count)
  const { names } = await load(t, files)
  isOver = true
  t.equal(new Set(names).size, 5001)
  t.ok(turns > 60, `${turns} turns`)
})
