// The operator's rules as they are written, and what they fit.
import t from 'tap'
import { readAccountRule, readPattern } from '../../src/config/account-rules.ts'

void t.test('rules', async (t) => {
  const rows: [written: string, rule: object][] = [
    ['name 201 keep', { of: 'name', says: 'keep' }],
    ['context door-* leave out', { of: 'context', says: 'leave out' }],
    ['name  1??   role  admin', { of: 'name', says: { role: 'admin' } }],
    ['name desk phone keep', { of: 'name', pattern: /^desk phone$/is, says: 'keep' }],
    ['name keep keep', { pattern: /^keep$/is, says: 'keep' }],
  ]
  for (const [written, rule] of rows) t.match(readAccountRule(written), { ...rule, written })
  for (const written of [
    '',
    '201 keep',
    'name keep',
    'name 201',
    'name 201 out',
    'name 201 role',
    'name 201 role a b',
    'endpoint 201 keep',
    ' name 201 keep',
    'name 201 keep ',
  ]) {
    t.match(readAccountRule(written), { problem: /^must be "name PATTERN keep"/ }, written)
  }
})

void t.test('patterns', async (t) => {
  const rows: [pattern: string, text: string, fits: boolean][] = [
    ['from-pstn*', 'from-pstn', true],
    ['from-pstn*', 'From-PSTN-e164', true],
    ['from-pstn*', 'not-from-pstn', false],
    ['*-incoming', 'SIP-TRUNK-1-incoming', true],
    ['*-incoming', 'incoming', false],
    ['1??', '100', true],
    ['1??', '1000', false],
    ['a.c', 'abc', false],
    ['(a|b)+[c]$^\\', '(a|b)+[c]$^\\', true],
    ['*', '', true],
    ['', 'a', false],
    ['*a', 'b\na', true],
    ['ü*', 'Über', true],
  ]
  for (const [pattern, text, fits] of rows)
    t.equal(readPattern(pattern).test(text), fits, `${pattern} ${text}`)
  // A pattern of many stars must not hold up the daemon.
  t.notOk(readPattern(`${'*'.repeat(60)}b`).test('a'.repeat(10_000)))
})
