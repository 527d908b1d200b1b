// A parsed document against the table of settings: every value, or every problem. It says where a
// problem stands and what would be right; it never says what was found there.

import * as v from 'valibot'
import type { Kind } from './kinds.ts'
import { formerSections, retired } from './retired.ts'
import { rules } from './rules.ts'
import { settings, userGrants } from './schema.ts'
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

/** Section → key → setting, of the sections whose entries the operator names. */
const sectionsOfEntries = new Map<string, Map<string, Setting>>()
for (const row of rows) {
  const [section = '', star, key = ''] = row.name.split('.')
  if (star !== '*') continue
  const keys = sectionsOfEntries.get(section) ?? new Map<string, Setting>()
  sectionsOfEntries.set(section, keys.set(key, row))
}

const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)

/** `constructor` and the like are keys as any other. */
const own = <T>(table: Readonly<Record<string, T>>, key: string): T | undefined =>
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
): { values: Values; warnings: readonly Problem[] } | { problems: readonly Problem[] } => {
  const problems: Problem[] = []
  const warnings: Problem[] = []
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
    const [section = '', ...entry] = parents
    const instead = own(retired, [section, ...entry.map(() => '*'), key].join('.'))
    if (instead !== undefined) {
      const path = [...parents, key]
      const text = `${showPath(path)}: no longer has an effect (${instead}): remove it`
      warnings.push({ path, text })
      return
    }
    const near = suggest(key, known)
    const elsewhere = names.find((name) => name.endsWith(`.${key}`))?.replace('*', 'NAME')
    const hint = near === undefined ? elsewhere : showPath([...parents, near])
    const cure = hint === undefined ? 'remove it' : `did you mean ${hint}?`
    complain([...parents, key], `unknown setting: ${cure}`)
  }

  /** A section of entries: every key of every entry, so that each slip is named once. */
  const readEntries = (section: string, keys: ReadonlyMap<string, Setting>) => {
    for (const [key, row] of keys) {
      const defaults = Object.entries(row.fallback).map(
        ([name, written]) => [name, readValue(row, [section, name, key], written)] as const,
      )
      values.set(row.name, new Map<string, unknown>(defaults))
    }
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
        if (!keys.has(other)) complainUnknown(path, other, [...keys.keys()])
      }
      for (const [key, row] of keys) {
        const written = own(entry, key) ?? row.unsaid
        const entries = values.get(row.name) as Map<string, unknown>
        if (written !== undefined) entries.set(name, readValue(row, [...path, key], written))
        else if (isTable(found)) {
          bad.add(row.name)
          complain([...path, key], `is missing: must be ${row.kind.expected}`)
        }
      }
    }
  }

  const readRow = (row: Setting) => {
    const [section = '', key = ''] = row.name.split('.')
    if (key === '*') return
    const writtenIn = (name: string): unknown => {
      const table = own(document, name)
      return isTable(table) ? own(table, key) : undefined
    }
    const former = own(formerSections, section)
    const name = former !== undefined && writtenIn(section) === undefined ? former : section
    const written = writtenIn(name)
    if (written !== undefined) given.add(row.name)
    values.set(row.name, readValue(row, [name, key], written ?? row.fallback))
  }

  const readUnknown = () => {
    const sections = [...new Set(names.map((name) => name.slice(0, name.indexOf('.'))))]
    for (const [name, found] of Object.entries(document)) {
      const section = sections.find((one) => own(formerSections, one) === name) ?? name
      if (section !== name) {
        const text = `${name}: is called [${section}] now: rename the section, the next version no longer reads the old name`
        warnings.push({ path: [name], text })
      }
      if (!sections.includes(section)) {
        complainUnknown([], name, sections)
        continue
      }
      const known = names
        .filter((row) => row.startsWith(`${section}.`))
        .map((row) => row.slice(section.length + 1))
      if (known.some((key) => key.includes('.'))) continue // readEntries has seen every key
      for (const key of Object.keys(readTable([name], found))) {
        if (!known.includes(key)) complainUnknown([name], key, known)
      }
    }
  }

  /** Where something tells whose a call is, the role that the file does not write hears its own. */
  const narrowDefault = () => {
    const sources = values.get('calls.sources')
    const roles = own(document, 'roles')
    if (!Array.isArray(sources) || sources.length === 0) return
    if (isTable(roles) && own(roles, 'user') !== undefined) return
    const grants = values.get('roles.*.grants') as Map<string, readonly string[]>
    grants.set('user', userGrants('{own_calls}'))
  }

  for (const row of rows) readRow(row)
  for (const [section, keys] of sectionsOfEntries) readEntries(section, keys)
  narrowDefault()
  readUnknown()
  const all = Object.fromEntries(values) as unknown as Values // complete: every row has set its own
  for (const rule of rules) {
    const broken = !rule.of.some((name) => bad.has(name)) && rule.isBroken(all)
    if (broken === false) continue
    const [first, second] = rule.of // one of them is in the file: the defaults break no rule
    const named = given.has(first) || broken !== true ? first : second
    complain(
      named.split('.').map((part) => (part === '*' ? String(broken) : part)),
      rule.problem,
    )
  }
  return problems.length > 0 ? { problems } : { values: all, warnings }
}
