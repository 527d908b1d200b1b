// Who may hear a recording, by its name. test/fixtures/calls/names.txt has names as PBXes write them.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createNames, parseNamePattern } from '../../src/calls/names.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

interface Row {
  path: string
  /** Undefined: the name tells nothing. */
  hears: readonly string[] | undefined
}

const rows: readonly Row[] = readFileSync(
  join(import.meta.dirname, '../fixtures/calls/names.txt'),
  'utf8',
)
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => {
    const [, hears = '', path = ''] = /^((?:[0-9]+ )*(?:[0-9]+|[-?])) +(.+)$/.exec(line) ?? []
    return {
      path: path.replaceAll('\\n', '\n'),
      hears: hears === '?' ? undefined : hears.split(' ').filter((text) => text !== '-'),
    }
  })

type Reader = (path: string) => readonly string[] | undefined

/** Everybody who might be taken for a party. */
const NUMBERS = [
  ...new Set(['201', '202', '203', ...rows.flatMap(({ hears }) => hears ?? [])]),
].toSorted()

/** Names that somebody may hear who took no part, as far as the name tells. */
const findLeaks = (read: Reader): string[] =>
  rows
    .filter(({ path, hears }) =>
      NUMBERS.some((number) => read(path)?.includes(number) === true && !hears?.includes(number)),
    )
    .map(({ path }) => path)

void t.test('a name tells who surely took part, and nothing else', (t) => {
  t.ok(rows.length >= 124, `${rows.length} names`)
  const { partiesOf } = createNames([])
  for (const { path, hears } of rows) {
    const parties = partiesOf(path)
    t.same(parties && new Set(parties), hears && new Set(hears), path)
  }
  t.same(
    findLeaks((path) => partiesOf(path)),
    [],
  )
  t.end()
})

void t.test('careless readers leak on these names', (t) => {
  const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1)
  const bySubstring: Reader = (path) => NUMBERS.filter((number) => path.includes(number))
  const byToken: Reader = (path) => nameOf(path).split(/[^A-Za-z0-9+*]+/)
  const byField: Reader = (path) => nameOf(path).split('-').slice(1, 3)
  t.ok(findLeaks(bySubstring).length > 110, `${findLeaks(bySubstring).length} by substring`)
  t.ok(findLeaks(byToken).length > 60, `${findLeaks(byToken).length} by token`)
  t.ok(
    findLeaks(byField).length > 40,
    `${findLeaks(byField).length} by the two fields after the type`,
  )
  t.end()
})

void t.test('patterns of the operator’s own name the parties', (t) => {
  const { partiesOf } = createNames([
    '{time}-{party}-{party}.{ending}',
    'rec_{party}_to_{other}.wav',
    'out-{dialled}-{party}-{date}.wav',
    '[{party}]\u{1f600}{rest}',
    'page {party}',
  ])
  for (const [path, parties] of [
    ['2026/20261128T101500-201-202.wav', ['201', '202']],
    ['20261128T101500-201-202x.wav', []],
    ['20261128T101500-201-1-202.wav', []], // one way to read it, or nobody
    ['20261128T101500-201-202.wav.mp3', []],
    ['rec_201_to_15551230202.wav', ['201']],
    ['rec_0201_to_202.wav', ['0201']],
    ['rec_٢٠١_to_202.wav', []],
    ['rec_201_to_.wav', ['201']],
    ['rec_201_to_a_to_b.wav.wav', ['201']], // whatever stands behind
    ['xrec_201_to_202.wav', undefined],
    ['rec_201_to_202Xwav', undefined], // text is text
    ['rec_201_to.wav', undefined],
    ['out-5551234-201-20261128.wav', ['201']],
    ['out--201-20261128.wav', ['201']],
    ['external-201-202-20261128-101500-1795860900.12.wav', ['201']], // of the forms that we know
    ['[201]\u{1f600}anything.of-it', ['201']],
    ['[201]\u{1f601}anything.of-it', undefined],
    ['page 201', ['201']],
    ['page 201x', []],
  ] as const) {
    t.same(partiesOf(path), parties, path)
  }
  t.same(createNames(['{party}.wav.wav']).partiesOf('201.wav'), undefined)
  // A wide pattern takes no names from the forms that we know, but such as a caller could have made.
  const known = 'external-201-202-20261128-101500-1795860900.12.wav'
  const wide = ['{party}.wav', '{date}-{time}-{party}-{other}.wav', '{time}-{party}.wav']
  for (const pattern of wide) t.same(createNames([pattern]).partiesOf(known), ['201'], pattern)
  t.same(createNames(['{caller}-{party}.wav']).partiesOf(known), [])
  t.same(createNames(['external-{party}_{x}.wav']).partiesOf(known.replace('202', 'a_b')), [])
  t.end()
})

void t.test('what a caller chose moves no party', (t) => {
  // What a caller shows, and a called party without a number: 202 took no part.
  const chosen = [
    '5-202',
    '5-202-',
    '-202',
    '202-',
    '202.',
    'x.202',
    '-',
    '202',
    '202-201',
    '5-202-201-20261128.wav',
  ]
  chosen.push(
    'external-202',
    'out-5-202-20261128-101500-1795860900.12',
    '202-always',
    'transfer_202_203',
    '5_202',
  )
  const forms: readonly (readonly [
    pattern: string,
    make: (caller: string, called: string) => string,
  ])[] = [
    ['{caller}-{party}-{date}.wav', (c, p) => `${c}-${p}-20261128.wav`],
    [
      '{caller}-{party}-{date}-{time}-{id}.wav',
      (c, p) => `${c}-${p}-20261128-101500-1795860900.12.wav`,
    ],
    ['{caller}-{party}.wav', (c, p) => `${c}-${p}.wav`],
    ['{caller}-{party}', (c, p) => `${c}-${p}`],
    ['{caller}_{party}-{rest}', (c, p) => `${c}_${p}-of+1`],
    ['{date}-{party}-{caller}-{party}.wav', (c, p) => `20261128-201-${c}-${p}.wav`],
    ['{party}-{caller}.wav', (c, p) => `${p}-${c}.wav`],
    ['rec {party}-{caller}-{id}.wav', (c, p) => `rec ${p}-${c}-202-202.wav`],
  ]
  for (const [pattern, make] of forms) {
    const { partiesOf } = createNames([pattern])
    for (const caller of chosen) {
      for (const called of ['201', 'unknown', '', '+201', '201-1']) {
        const name = make(caller, called)
        t.notOk(partiesOf(name)?.includes('202'), `${pattern}: ${name}`)
      }
    }
    t.ok(partiesOf(make('5551234', '201'))?.includes('201'), pattern)
  }
  // Nor do two patterns of which a name may be: whom both name took part.
  const two = createNames(['out-{party}-{dialled}.wav', '{caller}-{party}.wav'])
  t.same(two.partiesOf('out-202-201.wav'), [])
  t.same(two.partiesOf('5551234-201.wav'), ['201'])
  const wider = createNames(['rec_{party}_to_{party}', 'rec_{party}_to_{other}'])
  t.same([wider.partiesOf('rec_201_to_202'), wider.partiesOf('rec_201_to_+49')], [['201'], []])
  t.end()
})

void t.test('a pattern that could be read in two ways is refused with the cure', (t) => {
  for (const [pattern, problem] of [
    ['', /^has no \{party\}/],
    ['{date}.wav', /^has no \{party\}/],
    ['{party}{date}.wav', /^has two parts without text between them/],
    ['{date}{party}', /^has two parts without text/],
    ['{party}0-{date}', /^has a digit behind a part/],
    ['{caller}2{party}', /^has a digit behind a part/],
    ['{Party}-{party}', /^has a brace or a slash/],
    ['{party}-{', /^has a brace or a slash/],
    ['{party}-}', /^has a brace or a slash/],
    ['{}{party}', /^has a brace or a slash/],
    ['{date}/{party}', /^has a brace or a slash/],
    [`{party}${'-'.repeat(250)}`, /^has over 255 characters/],
  ] as const) {
    t.match(parseNamePattern(pattern), { problem }, pattern.slice(0, 30))
  }
  t.throws(() => createNames(['{date}']), /^name pattern \{date\} has no \{party\}/)
  t.end()
})

void t.test('a long name is read at once', (t) => {
  const patterns = [`${'{a}-'.repeat(60)}{party}`, `${'{party}-'.repeat(30)}x`, '{party}-{a}-{a}x']
  const { partiesOf } = createNames(patterns)
  const long = [
    '1-'.repeat(512),
    '-20261128-101500'.repeat(64),
    `out${'-20261128-101500'.repeat(60)}-1795860900.12.x`,
    `user-${'1-'.repeat(500)}`,
    `transfer_${'1_'.repeat(500)}`,
    `-1795860900.1${'.wav'.repeat(250)}.`,
    '-179586090'.repeat(100),
  ]
  const elapsed = startStopwatch()
  for (let time = 0; time < 100; time++) for (const name of long) partiesOf(name)
  t.ok(elapsed().ours < 700, `${elapsed().ours} ms for ${long.length * 100}`)
  t.end()
})
