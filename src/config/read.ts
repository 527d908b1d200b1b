// A parsed document against the table of settings: every value, or every problem. It says where a
// problem stands and what would be right; it never says what was found there.

import * as v from 'valibot'
import type { Kind } from './kinds.ts'
import { rules } from './rules.ts'
import { settings } from './schema.ts'
import type { Setting, Values } from './schema.ts'
import { suggest } from './suggest.ts'

type Path = readonly (string | number)[]
type Table = Readonly<Record<string, unknown>>

export interface Problem {
  /** Where to look. */
  readonly path: Path
  /** `setting: what is wrong and the cure`. */
  readonly text: string
}

const rows: readonly Setting[] = settings
const names = rows.map((row) => row.name)

const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)

/** `constructor` and the like are keys as any other. */
const own = (table: Table, key: string): unknown =>
  Object.hasOwn(table, key) ? table[key] : undefined

const MAX_KEY = 64
const BARE_KEY = /^[A-Za-z0-9_-]+$/

/** No control character and no letter that turns a line around reaches the terminal. */
const escaped = (key: string): string =>
  JSON.stringify(key).replaceAll(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

/** A path as it would be written, fit for a terminal whatever the key holds. */
export const showPath = (path: Path): string =>
  path
    .map((part, depth) => {
      if (typeof part === 'number') return `[${part}]`
      const shown = BARE_KEY.test(part) ? part : escaped(part)
      return (
        (depth === 0 ? '' : '.') + (shown.length > MAX_KEY ? `${shown.slice(0, MAX_KEY)}…` : shown)
      )
    })
    .join('')

// An entry's name goes into users files, headers and `{role}`: no separator of any of these.
const ENTRY_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/

export const readSettings = (
  document: Table,
): { values: Values } | { problems: readonly Problem[] } => {
  const problems: Problem[] = []
  const values = new Map<string, unknown>()
  const given = new Set<string>()
  const bad = new Set<string>()

  const complain = (path: Path, problem: string) => {
    problems.push({ path, text: `${showPath(path)}: ${problem}` })
  }

  const cureOf = (issue: v.BaseIssue<unknown>, kind: Kind<unknown>): string => {
    if (issue.kind === 'transformation') return issue.message // ours, from kinds.ts
    const isQuoted = typeof issue.input === 'string' && /number|boolean/.test(issue.type)
    if (issue.expected === 'string') return `must be in quotes: ${kind.expected}`
    if (isQuoted) return `must be ${kind.expected}, without quotes`
    return `must be ${kind.expected}`
  }

  const readValue = (row: Setting, path: Path, written: unknown): unknown => {
    const result = v.safeParse(row.kind.schema, written)
    if (result.success) return result.output
    bad.add(row.name)
    for (const issue of result.issues) {
      const inner = (issue.path ?? []).map((item) => item.key as string | number)
      complain([...path, ...inner], cureOf(issue, row.kind))
    }
    return undefined
  }

  /** The table of a section; a section that is something else is named once and read as empty. */
  const readTable = (path: readonly string[], found: unknown): Table => {
    if (found === undefined) return {}
    if (isTable(found)) return found
    complain(path, `must be a section: write [${showPath(path)}] and its settings below it`)
    return {}
  }

  const complainUnknown = (parents: readonly string[], key: string, known: readonly string[]) => {
    const near = suggest(key, known)
    const elsewhere = names.find((name) => name.endsWith(`.${key}`))?.replace('*', 'NAME')
    const hint = near === undefined ? elsewhere : showPath([...parents, near])
    const cure = hint === undefined ? 'remove it' : `did you mean ${hint}?`
    complain([...parents, key], `is no setting: ${cure}`)
  }

  const readEntries = (row: Setting, section: string, key: string) => {
    const entries = new Map<string, unknown>(
      Object.entries(row.fallback).map(([name, written]) => [
        name,
        readValue(row, [section, name, key], written),
      ]),
    )
    for (const [name, found] of Object.entries(readTable([section], own(document, section)))) {
      const path = [section, name]
      if (!ENTRY_NAME.test(name)) {
        complain(
          path,
          'must be named by 1 to 64 letters, digits, _ or -, the first a letter or digit',
        )
        continue
      }
      const entry = readTable(path, found)
      for (const other of Object.keys(entry)) {
        if (other !== key) complainUnknown(path, other, [key])
      }
      const written = own(entry, key)
      if (written !== undefined) entries.set(name, readValue(row, [...path, key], written))
      else if (isTable(found)) complain([...path, key], `is missing: must be ${row.kind.expected}`)
    }
    values.set(row.name, entries)
  }

  const readRow = (row: Setting) => {
    const [section = '', key = '', entryKey] = row.name.split('.')
    if (entryKey !== undefined) return readEntries(row, section, entryKey)
    const table = own(document, section)
    const written = isTable(table) ? own(table, key) : undefined
    if (written !== undefined) given.add(row.name)
    values.set(row.name, readValue(row, [section, key], written ?? row.fallback))
  }

  const readUnknown = () => {
    const sections = [...new Set(names.map((name) => name.slice(0, name.indexOf('.'))))]
    for (const [section, found] of Object.entries(document)) {
      if (!sections.includes(section)) {
        complainUnknown([], section, sections)
        continue
      }
      const known = names
        .filter((name) => name.startsWith(`${section}.`))
        .map((name) => name.slice(section.length + 1))
      if (known.some((key) => key.includes('.'))) continue // readEntries has seen every key
      for (const key of Object.keys(readTable([section], found))) {
        if (!known.includes(key)) complainUnknown([section], key, known)
      }
    }
  }

  for (const row of rows) readRow(row)
  readUnknown()
  const all = Object.fromEntries(values) as unknown as Values // complete: every row has set its own
  for (const rule of rules) {
    if (rule.of.some((name) => bad.has(name)) || !rule.isBroken(all)) continue
    const [first, second] = rule.of // one of them is in the file: the defaults break no rule
    complain((given.has(first) ? first : second).split('.'), rule.problem)
  }
  return problems.length > 0 ? { problems } : { values: all }
}
