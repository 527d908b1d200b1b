// The table of settings and the file that explains them say the same.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'smol-toml'
import t from 'tap'
import { readConfig } from '../../src/config/load.ts'
import { settings } from '../../src/config/schema.ts'
import type { Setting } from '../../src/config/schema.ts'

const rows: readonly Setting[] = settings
const example = readFileSync(join(import.meta.dirname, '../../postern.example.toml'), 'utf8')

/** `roles.*.grants` stands there once for each role; the others once. */
const standing = (document: unknown, name: string): unknown[] => {
  let found = [document]
  for (const part of name.split('.')) {
    found = found
      .filter((value) => typeof value === 'object' && value !== null)
      .flatMap((value) => Object.entries(value))
      .filter(([key]) => part === '*' || part === key)
      .map(([, value]) => value as unknown)
  }
  return found
}

void t.test('the example file holds every setting at its default', async (t) => {
  // Of role `user` as a comment: what it may do hangs on whether a source of calls is named.
  const whole = example.replace(/^#   \[roles\.user\]\n(?:#   .*\n)+/m, (block) =>
    block.replaceAll(/^#   /gm, ''),
  )
  const document = parse(whole)
  for (const { name, fallback } of rows) {
    t.same(
      standing(document, name),
      typeof fallback === 'object' && !Array.isArray(fallback)
        ? Object.values(fallback)
        : [fallback],
      name,
    )
  }
  for (const text of [example, whole]) {
    t.strictSame(readConfig(text, 'example').config, readConfig('', 'empty').config)
  }
})

void t.test('the example file marks exactly the settings that need a restart', async (t) => {
  // A comment explains the settings that follow it up to the next empty line.
  const marked = new Set<string>()
  let section = ''
  for (const block of example.split('\n\n')) {
    section = /^\[(.+)\]$/m.exec(block)?.[1] ?? section
    for (const [, key] of block.matchAll(/^([a-z_]+) =/gm)) {
      if (block.includes('[restart]')) marked.add(`${section}.${key}`)
    }
  }
  t.same(
    [...marked],
    rows.filter((row) => row.restart).map((row) => row.name),
  )
})

void t.test(
  'a setting has one name, one line of explanation and a kind that says what it expects',
  async (t) => {
    t.equal(new Set(rows.map((row) => row.name)).size, rows.length)
    for (const { name, explain, kind } of rows) {
      t.match(name, /^[a-z_]+\.(?:\*\.)?[a-z_]+$/)
      t.match(explain, /^[^\n]{10,100}$/, name)
      t.match(kind.expected, /^[^\n]+$/, name)
    }
  },
)

void t.test('the defaults are those that the clients were promised', async (t) => {
  const config = readConfig('', 'empty').config
  t.same(config.listen.http, { path: '/run/postern/http.sock' })
  t.same(config.listen.operator, { host: '127.0.0.1', port: 9478 })
  t.match(config.softphone, { accessTtl: 3600, refreshTtl: 30 * 24 * 3600 })
  t.same(config.passwords, { memoryKib: 19_456, passes: 2, workers: 2 })
  t.same([...config.roles.keys()], ['user', 'admin'])
})
