// Asterisk's syntax line by line, in real files. The expected values are what Asterisk's own loader makes of them.
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadAsteriskFile } from '../../src/users/asterisk-file.ts'

type Files = Record<string, string>

const load = async (t: Test, files: Files | string) => {
  const folder = t.testdir(typeof files === 'string' ? { 'pjsip.conf': files } : files)
  const config = await loadAsteriskFile(join(folder, 'pjsip.conf'))
  const short = (lines: readonly string[]): string[] =>
    lines.map((line) => line.replaceAll(`${folder}/`, ''))
  return {
    folder,
    config,
    problems: short(config.problems),
    warnings: short(config.warnings),
    /** `name: a=1 b=2`, templates with a star. */
    sections: config.sections.map(
      ({ name, template, variables }) =>
        `${name}${template ? '*' : ''}:${variables.map((one) => ` ${one.name}=${one.value}`).join('')}`,
    ),
  }
}

const understood: [string, Files | string, string[]][] = [
  ['values', '[a]\nx=1\ny = 2 3 \nz=>4\n', ['a: x=1 y=2 3 z=4']],
  ['carriage returns and a byte order mark', '\uFEFF[a]\r\nx=1\r\n', ['a: x=1']],
  ['names of values in any case', '[a]\nPassWord=X\n', ['a: password=X']],
  [
    'what is no space to Asterisk',
    '[a]\n\u00a0x=1\nx=\u00a02\u00a0\n\x01y\x01=\x013\x01\n',
    ['a: \u00a0x=1 x=\u00a02\u00a0 y=3'],
  ],
  ['an equals sign in a value', '[a]\nx=b64==\n', ['a: x=b64==']],
  ['an empty value', '[a]\nx=\n', ['a: x=']],
  ['a value made longer', '[a]\nx=1\nx+= 2 \ny += 3\n', ['a: x=1 2 y=3']],
  ['sections of one name stay apart', '[a]\nx=1\n[a]\nx=2\n', ['a: x=1', 'a: x=2']],
  ['text after a header is passed over', '[a] (b)\nx=1\n', ['a: x=1']],
  // comments
  ['a comment line', '; x\n[a] ; y\nx=1;2\n', ['a: x=1']],
  ['an escaped semicolon', '[a]\nx=1\\;2 ; 3\n', ['a: x=1;2']],
  ['a comment inside a line', '[a]\nx=1;-- 2 --;3\n', ['a: x=13']],
  ['a comment over lines', '[a]\nx=1;-- 2\ny=2 \\; z\n;\n--;\nz=3\n', ['a: x=1 z=3']],
  ['comments inside comments', '[a]\n;-- ;-- x=1 --; x=2\nx=3 --;\ny=4\n', ['a: y=4']],
  ['a line of dashes is one line', '[a]\n;----- x --\nx=1\n;---;\ny=2\n', ['a: x=1 y=2']],
  // templates
  ['a template', '[t](!)\nx=1\n[a](t)\ny=2\n', ['t*: x=1', 'a: x=1 y=2']],
  [
    'several templates, in order',
    '[t](!)\nx=1\n[u](!,t)\nx=2\n[a](t,u)\n',
    ['t*: x=1', 'u*: x=1 x=2', 'a: x=1 x=1 x=2'],
  ],
  ['a section as a template', '[t]\nx=1\n[a](t)\n', ['t: x=1', 'a: x=1']],
  [
    'an addition to the first of a name, in any case',
    '[a]\nx=1\n[a]\nx=2\n[A](+)\ny=3\n',
    ['a: x=1 y=3', 'a: x=2'],
  ],
  [
    'an addition to one type',
    '[a]\ntype=auth\n[a]\ntype=aor\n[a](+type=auth)\ny=3\n',
    ['a: type=auth y=3', 'a: type=aor'],
  ],
  ['an addition with a template', '[t](!)\nx=1\n[a]\ny=2\n[a](+,t)\n', ['t*: x=1', 'a: y=2 x=1']],
  // includes
  [
    'an include in its three spellings',
    { 'pjsip.conf': '#include "b"\n#include <b>\n#INCLUDE b\n', b: '[b]\n' },
    ['b:', 'b:', 'b:'],
  ],
  [
    'an include that goes on with the section',
    { 'pjsip.conf': '[a]\n#include b\ny=2\n', b: 'x=1\n[b]\nz=3\n' },
    ['a: x=1 y=2', 'b: z=3'],
  ],
  [
    'an include from the folder of the configuration, wherever it stands',
    { 'pjsip.conf': '#include d/b\n', d: { b: '#include d/c\n', c: '[c]\n' } } as never,
    ['c:'],
  ],
  [
    'an include of many, in order',
    {
      'pjsip.conf': '#include d/*.conf\n',
      d: { 'b.conf': '[b]\n', 'a.conf': '[a]\n', c: '[c]\n' },
    } as never,
    ['a:', 'b:'],
  ],
  ['an include of a pattern that may match none', '[a]\n#tryinclude none/*.conf\n', ['a:']],
  [
    'an include that may be missing',
    { 'pjsip.conf': '#tryinclude none\n#tryinclude b\n', b: '[b]\n' },
    ['b:'],
  ],
]

for (const [name, files, sections] of understood) {
  void t.test(`understood: ${name}`, async (t) => {
    const loaded = await load(t, files)
    t.same(loaded.problems, [])
    t.same(loaded.warnings, [])
    t.same(loaded.sections, sections)
  })
}

/** Of each nothing is refused: `[z]` stands behind it. */
const broken: [string, Files | string, RegExp[]][] = [
  ['a header left open', '[a\nx=1\n', [/^pjsip\.conf:1: a section header without its \]/]],
  ['options left open', '[a](b\nx=1\n[c]\n', [/^pjsip\.conf:1: \[a\]\( without its \)/]],
  ['an unknown template', '\n[a](t)\n', [/^pjsip\.conf:2: \[a\] wants the template \[t\]/]],
  ['a template after a space', '[t](!)\n[a](t, t)\n', [/^pjsip\.conf:2: .* without a space/]],
  ['an addition to nothing', '[a](+)\nx=1\n', [/^pjsip\.conf:1: \[a\]\(\+\) adds to a section/]],
  ['an addition to another type', '[a]\ntype=aor\n[a](+type=auth)\n', [/^pjsip\.conf:3: /]],
  ['an addition to a template', '[a](!)\n[a](+)\n', [/^pjsip\.conf:2: /]],
  ['an addition by no pattern', '[a]\ntype=auth\n[a](+type=[)\n', [/^pjsip\.conf:3: /]],
  ['an addition by a name alone', '[a]\ntype=auth\n[a](+type)\n', [/^pjsip\.conf:3: /]],
  ['a value before any section', 'x=1\n[a]\n', [/^pjsip\.conf:1: a line before the first/]],
  ['a \\ before a space', '[a]\n\\ x=1\n', [/^pjsip\.conf:2: a \\ before nothing/]],
  [
    'an include of a folder',
    { 'pjsip.conf': '#include d\n', d: {} } as never,
    [/^pjsip\.conf:1: d is no file: passed over/],
  ],
  [
    'an include of itself',
    '#tryinclude pjsip.conf\n',
    [/^pjsip\.conf:1: pjsip\.conf includes itself/],
  ],
  [
    'a loop of two',
    { 'pjsip.conf': '#tryinclude b\n', b: '#tryinclude pjsip.conf\n' },
    [/^b:1: pjsip\.conf includes itself/],
  ],
  ['an addition left open', '[a]\nx=1\n[a](+\ny=1\n', [/^pjsip\.conf:3: \[a\]\( without/]],
  ['each of several', 'x=1\n[a\n[b](t)\n', [/:1: /, /:2: /, /:3: /]],
  ['a template of itself', '[a](!,a)\n', [/^pjsip\.conf:1: \[a\] wants the template \[a\]/]],
  ['a FIFO', '#include /dev/null\n', [/null is no file/]],
]

for (const [name, files, problems] of broken) {
  void t.test(`broken: ${name}`, async (t) => {
    const all = typeof files === 'string' ? { 'pjsip.conf': files } : files
    const loaded = await load(t, { ...all, 'pjsip.conf': `${all['pjsip.conf']}[z]\nx=1\n` })
    t.same(loaded.problems, [])
    t.match(loaded.warnings, problems)
    t.equal(loaded.warnings.length, problems.length)
    t.match(loaded.config.sections.at(-1), { name: 'z', broken: false, variables: [{}] })
  })
}

const passedOver: [string, Files | string, string[], RegExp[]][] = [
  [
    'lines that say nothing',
    '[a]\nhunter2\n=hunter2\n#exec hunter2\n#inclood hunter2\n#include\nx=1\n',
    ['a: x=1'],
    [/:2: neither/, /:3: neither/, /:4: #exec is never run/, /:5: an unknown/, /:6: .* no file/],
  ],
  [
    'what follows a comment closed once too often, up to the next',
    '[a]\nx=1 --; 2 ; 3\ny=1\n;-- x ; y\nz=4\n',
    ['a: x=1 --; 2 ; 3 z=4'],
    [/^pjsip\.conf:2: --; closes no/],
  ],
  ['what follows a NUL in a line', '[a]\nx=1\0hunter2\n', ['a: x=1'], []],
  ['a comment never closed', '[a]\n;-- x\n[b]\n', ['a:'], [/^pjsip\.conf:2: ;-- is not closed/]],
  [
    'a comment never opened',
    '[a]\nx=1 --; 2\n[b]\n',
    ['a: x=1 --; 2'],
    [/^pjsip\.conf:2: --; closes no/],
  ],
  [
    'a folder among the matches',
    { 'pjsip.conf': '#include d/*\n', d: { a: '[a]\n', b: { c: '[c]\n' } } } as never,
    ['a:'],
    [/^pjsip\.conf:1: d\/b is no file: passed over/],
  ],
]

for (const [name, files, sections, warnings] of passedOver) {
  void t.test(`passed over with a warning: ${name}`, async (t) => {
    const loaded = await load(t, files)
    t.same(loaded.problems, [])
    t.same(loaded.sections, sections)
    t.match(loaded.warnings, warnings)
    t.equal(loaded.warnings.length, warnings.length)
    t.notMatch(loaded.warnings.join(), /hunter2/)
  })
}

void t.test('a line of more bytes than Asterisk has room for is passed over', async (t) => {
  const { sections, warnings } = await load(
    t,
    `[a]\nx=${'1'.repeat(8188)}\ny=${'2'.repeat(8189)}\nz=${'3'.repeat(20_000)}\nz=4`,
  )
  t.same(sections, [`a: x=${'1'.repeat(8188)} z=4`])
  t.match(warnings, [/:3: a line over 8190 bytes/, /:4: a line over/])
})

void t.test('bytes that are no UTF-8 are Latin-1, and no two become one', async (t) => {
  const folder = t.testdir({})
  const file = join(folder, 'pjsip.conf')
  writeFileSync(file, Buffer.from('[a]\nx=gr\xfcn\ny=gr\xc3\xbcn\nz=\xff\n', 'latin1'))
  const { sections } = await loadAsteriskFile(file)
  t.same(
    sections[0]?.variables.map(({ value }) => value),
    ['grün', 'grün', 'ÿ'],
  )
})

void t.test('includes end: ten levels, five thousand files, sixteen megabytes', async (t) => {
  const deep: Files = { 'pjsip.conf': '#include 1\n' }
  for (let level = 1; level <= 10; level++)
    deep[String(level)] = `[${level}]\n#include ${level + 1}\n`
  t.match((await load(t, deep)).warnings, [/^10:2: 11 is included too deep/])

  const wide: Files = { 'pjsip.conf': '#include 1\n#include 1\n' }
  for (let level = 1; level < 9; level++) {
    wide[String(level)] = `#include ${level + 1}\n`.repeat(4)
  }
  const bomb = await load(t, { ...wide, '9': '' })
  t.match(bomb.problems[0], /one file too many/)

  const braces = await load(t, `#tryinclude ${'{d,n}'.repeat(40)}/*\n#tryinclude {d,e/*\n[a]\n`)
  t.same(braces.sections, ['a:'], 'as are the patterns of one line')

  const large = await load(t, '[a]\n'.padEnd(16 * 1024 * 1024 + 1, ' '))
  t.match(large.problems, [/over 16 MiB/])
})

const brokenOnes: [what: string, text: string, names: string[]][] = [
  ['a header left open', '[a\nx=1\n[b]\n', ['a']],
  ['options left open', '[a](b\n[b]\n', ['a']],
  ['a line with a \\ before nothing', '[a]\n\\ x=1\n[b]\n', ['a']],
  ['what is made of a broken template', '[t](!,u)\n[v](!,t)\n[a](v)\n[b]\n', ['t', 'v', 'a']],
  ['what a broken addition is for', '[t](!)\n[a]\n[a](+,t,u)\n[b]\n', ['a']],
  ['an addition of what is broken', '[t](!,u)\n[a]\n[b]\n[a](t,+)\n', ['t', 'a']],
  ['what (+) may have meant, before it', '[a]\nx=1\n[A](+x=2)\ny=1\n[b]\n', ['a', 'A']],
  ['and after it', '[A](+)\ny=1\n[a]\n[b]\n', ['A', 'a']],
]
for (const [what, text, names] of brokenOnes) {
  void t.test(`broken, and no other: ${what}`, async (t) => {
    const { config } = await load(t, text)
    t.same(
      config.sections.filter(({ broken }) => broken).map(({ name }) => name),
      names,
    )
    t.ok(config.sections.length > names.length)
  })
}

void t.test('a file of another kind is told by its first thousand lines', async (t) => {
  const { warnings, problems } = await load(t, 'hunter2\n'.repeat(3000))
  t.same([warnings.length, problems], [1000, []])
  t.notMatch(warnings.join(), /hunter/)
})

void t.test('what cannot be read is a problem', async (t) => {
  const lost = { 'pjsip.conf': '#include b\n', b: t.fixture('symlink', '/proc/1/nothing/x') }
  t.match((await load(t, lost as never)).problems, [/:1: b is not there/])
  const { problems, isThere } = await loadAsteriskFile('/proc/self/mem')
  t.match(problems, [/cannot be read \(E\w+\): correct the name, or add .* group of Asterisk/])
  t.ok(isThere)
})

void t.test('the mark changes with any file, also one that is missing or new', async (t) => {
  const { folder, config } = await load(t, {
    'pjsip.conf': '[a]\n#tryinclude d/*.conf\n#tryinclude later\n#include b\n',
    b: '',
    d: {},
  } as never)
  let { mark, readMark } = config
  t.equal(await readMark(), mark, 'nothing has happened')
  for (const name of ['b', 'later', 'd/new.conf', 'pjsip.conf']) {
    writeFileSync(join(folder, name), '[x]\ny=1\n')
    const now = await readMark()
    t.not(now, mark, name)
    mark = now
  }
})

void t.test('a file that every user of the host can write is a problem', async (t) => {
  const folder = t.testdir({
    'pjsip.conf': '#include more.conf\n',
    'more.conf': '[a]\ntype=auth\n',
  })
  chmodSync(join(folder, 'more.conf'), 0o662)
  const { problems } = await loadAsteriskFile(join(folder, 'pjsip.conf'))
  t.match(problems, [/pjsip\.conf:1: .*more\.conf: has mode 662: .*chmod o-w/])
})

/** Seconds of processor for `extensions` of one template, and the turns that others had meanwhile. */
const measure = async (t: Test, extensions: number) => {
  const lines = ['[auth](!)', 'type=auth']
  for (let n = 0; n < extensions; n++) lines.push(`[${n}](auth)`, `username=${n}`, 'password=x')
  const folder = t.testdir({ 'pjsip.conf': lines.join('\n') })
  let turns = 0
  let isOver = false
  const count = (): void => {
    if (!isOver) setImmediate(count)
    turns++
  }
  setImmediate(count)
  const before = process.cpuUsage()
  const { sections } = await loadAsteriskFile(join(folder, 'pjsip.conf'))
  isOver = true
  t.equal(sections.length, extensions + 1)
  return { seconds: process.cpuUsage(before).user / 1e6, turns }
}

void t.test('ten thousand extensions are linear work, and checks go on meanwhile', async (t) => {
  await measure(t, 2000) // warm
  const few = await measure(t, 3000)
  const many = await measure(t, 30_000)
  t.ok(many.seconds < 40 * few.seconds, `${many.seconds} s for ten times ${few.seconds} s`)
  t.ok(many.turns > 100, `${many.turns} turns`)
})

void t.test(
  'what is not there to be included may be what tells a trunk from a phone',
  async (t) => {
    for (const target of ['none', 'none/*.conf']) {
      const { problems, warnings } = await load(t, `[a]\n#include ${target}\n[z]\nx=1\n`)
      t.match(problems, [new RegExp('^pjsip.conf:2: none.* is not there .*: correct the name, or')])
      t.same(warnings, [])
    }
  },
)
