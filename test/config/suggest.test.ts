import t from 'tap'
import { suggest } from '../../src/config/suggest.ts'

void t.test('the nearest name is suggested, and none when none is near', async (t) => {
  const names = ['access_ttl', 'refresh_ttl', 'base_path', 'level', 'http']
  for (const [word, expected] of [
    ['acess_ttl', 'access_ttl'],
    ['acecss_ttl', 'access_ttl'], // two letters swapped
    ['ACCESS_TTL', 'access_ttl'],
    ['refesh-ttl', 'refresh_ttl'],
    ['basepath', 'base_path'],
    ['levels', 'level'],
    ['htp', 'http'],
    ['x', undefined],
    ['', undefined],
    ['colour', undefined],
    ['a'.repeat(100_000), undefined],
  ] as const) {
    t.equal(suggest(word, names), expected, word.slice(0, 20))
  }
})

void t.test('of two names equally near the first is suggested', async (t) => {
  t.equal(suggest('table', ['tables', 'tabled']), 'tables')
  t.equal(suggest('table', []), undefined)
})
