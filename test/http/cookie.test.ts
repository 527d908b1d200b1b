// Cookies read and written. Without a server.

import { isDeepStrictEqual } from 'node:util'

import * as fc from 'fast-check'
import t from 'tap'

import { type CookieRead, readCookie, writeCookie } from '../../src/http/cookie.ts'

void t.test('one value is found however the line is written', (t) => {
  const rows: Record<string, string> = {
    alone: 'x=v',
    'among others': 'a=1; x=v; b=2',
    'without spaces': 'a=1;x=v;b=2',
    'with tabs': 'a=1;\tx=v\t; b',
    quoted: 'x="v"',
    'twice the same': 'x=v; x=v',
    'twice the same, once quoted': 'x=v; x="v"',
    'beside a nameless one': '=y; x=v; ;; =',
    'beside other cases': 'X=w; x=v; X=u',
    'beside longer names': 'ax=w; x=v; xa=u',
    'beside prefixed names': '__Host-x=w; x=v; __host-x=u',
  }
  for (const [what, line] of Object.entries(rows))
    t.same(readCookie(line, 'x'), { value: 'v' }, what)
  t.same(readCookie('x=a=b==', 'x'), { value: 'a=b==' }, 'the first = divides')
  t.same(readCookie('x=a b', 'x'), { value: 'a b' })
  t.end()
})

void t.test('nothing under the name is missing', (t) => {
  for (const line of [undefined, '', 'a=1', 'x', 'x=', 'x=""', 'X=v', '__Host-x=v']) {
    t.same(readCookie(line, 'x'), { problem: 'missing' }, String(line))
  }
  t.end()
})

void t.test('only a space and a tab may stand around a name or a value', (t) => {
  // All that String.trim takes away, as far as a header can bring it. Chromium keeps such a name as it is, and lets a
  // neighbour set it with Domain=, since its prefix is not __Host-.
  for (const odd of ['\u00a0', '\v', '\f', '\u0085', '\u00ad', '\u00ff']) {
    for (const line of [`${odd}x=v`, `x${odd}=v`, `a=1;${odd} x=v`, ` ${odd} x=v`, `x ${odd} =v`]) {
      t.same(readCookie(line, 'x'), { problem: 'missing' }, JSON.stringify(line))
    }
    t.same(readCookie(`x=${odd}v`, 'x'), { value: `${odd}v` })
    t.same(readCookie(`x=v${odd}`, 'x'), { value: `v${odd}` })
    t.same(readCookie(`x=v; ${odd}x=w`, 'x'), { value: 'v' }, 'and shuts nobody out')
  }
  t.end()
})

/** By the letter of RFC 6265bis: pairs between semicolons, the first = of each divides. */
const byPairs = (line: string, name: string): CookieRead => {
  const values = line
    .split(';')
    .filter((pair) => pair.includes('='))
    .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)] as const)
    .filter(([found]) => found.replaceAll(/^[ \t]+|[ \t]+$/g, '') === name)
    .map(([, value]) => value.replaceAll(/^[ \t]+|[ \t]+$/g, '').replace(/^"(.*)"$/, '$1'))
  const [value = ''] = values
  if (values.some((other) => other !== value)) return { problem: 'ambiguous' }
  return value === '' ? { problem: 'missing' } : { value }
}

void t.test('any line is read as its pairs', (t) => {
  const piece = fc.constantFrom('x', 'x', 'xx', '=', ';', ' ', '\t', '"', 'y', '\u00a0')
  const lines = fc.array(piece, { maxLength: 20 }).map((pieces) => pieces.join(''))
  const same = fc.property(lines, fc.constantFrom('x', 'xx'), (line, name) =>
    isDeepStrictEqual(readCookie(line, name), byPairs(line, name)),
  )
  fc.assert(same, { numRuns: 5000 })
  t.end()
})

void t.test('two values under one name are no value', (t) => {
  for (const line of ['x=a; x=b', 'x=a;x=b;x=a', 'x=a; x=', 'x=; x=a', 'x="a"; x="b"']) {
    t.same(readCookie(line, 'x'), { problem: 'ambiguous' }, line)
  }
  t.end()
})

void t.test(
  'what is written never lacks HttpOnly, SameSite and the path, and names no domain',
  (t) => {
    const base = 'x=v; Path=/; HttpOnly; SameSite=Strict'
    t.equal(writeCookie('x', 'v', { secure: false }), base)
    t.equal(writeCookie('x', 'v', { secure: true }), `${base}; Secure`)
    t.equal(writeCookie('x', 'v', { secure: true, maxAge: 900 }), `${base}; Secure; Max-Age=900`)
    t.equal(
      writeCookie('x', '', { secure: false, maxAge: 0 }),
      'x=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0',
    )
    t.end()
  },
)
