// What is asked of a CDR's table, whatever stands in it.

import type { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'

import { CdrError } from './cdr-file.ts'
import { CDR_COLUMNS, type CdrField, type CdrRow } from './cdr-row.ts'

export interface CdrTerms {
  readonly file: string
  readonly table: string
  /** The columns that are named otherwise than MikoPBX's. */
  readonly columns: ReadonlyMap<string, string>
  readonly prefixes: readonly string[]
}

export interface Rows {
  readonly after: bigint
  readonly to: bigint
  readonly most: number
  /** Where there are more: the newest of them, else the oldest. */
  readonly areNewest?: boolean
  /** Those alone whose file has this in its name. */
  readonly of?: string
}

export const FIRST_ROW = -(2n ** 63n)
export const LAST_ROW = 2n ** 63n - 1n

const MAX_PATH = 4096
const MAX_TEXT = 256
const mostOf = (field: CdrField): number => (field === 'file' ? MAX_PATH : MAX_TEXT)

const FIELDS = Object.keys(CDR_COLUMNS) as CdrField[]
const NEEDED: ReadonlySet<CdrField> = new Set(['file', 'seconds', 'source', 'destination'])

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** Never a BLOB, never longer than it may be, and numbers as text: a row that is odd must not stop the others. */
const textOf = (field: CdrField, column: string): string => {
  const name = quote(column)
  const kind = field === 'file' ? `= 'text'` : `<> 'blob'`
  return `CASE WHEN typeof(${name}) ${kind} AND length(CAST(${name} AS BLOB)) <= ${mostOf(field)} THEN CAST(${name} AS TEXT) END`
}

/** The columns that there are, and what is to be said of those that there are not. */
const findColumns = (database: DatabaseSync, { file, table, columns }: CdrTerms) => {
  const wrong = (text: string): CdrError => new CdrError(`${file}: ${text}`, { isPassing: true })
  const found = database.prepare('SELECT type, wr FROM pragma_table_list(?)').get(table)
  if (!found) throw wrong(`has no table ${table}: correct calls.cdr_table`)
  if (found['type'] === 'view') {
    throw wrong(`${table} is a view: name a table as calls.cdr_table`)
  }
  const there = new Set(
    database
      .prepare('SELECT lower(name) AS name FROM pragma_table_info(?)')
      .all(table)
      .map(({ name }) => name),
  )
  if (found['wr'] === 1 || there.has('rowid')) {
    throw wrong(`${table} has no rowid of SQLite's: name a table that has as calls.cdr_table`)
  }
  const nameOf = (field: CdrField): string => columns.get(field) ?? CDR_COLUMNS[field]
  const isThere = (field: CdrField): boolean => there.has(nameOf(field).toLowerCase())
  const missing = FIELDS.filter((field) => !isThere(field))
  const bad = missing.filter((field) => NEEDED.has(field) || columns.has(field))
  if (bad.length > 0) {
    const names = bad.map((field) => `${nameOf(field)} (${field})`).join(', ')
    throw wrong(`${table} has no column ${names}: correct calls.cdr_columns`)
  }
  const sides = (['source', 'destination'] as const).filter(
    (side) => missing.includes(`${side}_channel`) && missing.includes(`${side}_account`),
  )
  const doubts = sides.map(
    (side) =>
      `${file}: ${table} has no column for the channel of the ${side}: set ${side}_channel in calls.cdr_columns. Until then whoever shows a number counts as its user`,
  )
  const fields = FIELDS.filter(isThere)
  return { fields, doubts, nameOf }
}

export const readRows = (database: DatabaseSync, terms: CdrTerms, wanted: Rows) => {
  const { fields, doubts, nameOf } = findColumns(database, terms)
  const select = fields.map((field) => textOf(field, nameOf(field))).join(', ')
  const { after, to, most, areNewest, of } = wanted
  const order = areNewest === true ? 'DESC' : 'ASC'
  const named = of === undefined ? '' : `AND instr(${quote(nameOf('file'))}, ?)`
  const statement = database.prepare(
    `SELECT rowid, ${select} FROM ${quote(terms.table)} WHERE rowid > ? AND rowid <= ? ${named} ORDER BY rowid ${order} LIMIT ?`,
  )
  statement.setReadBigInts(true)
  statement.setReturnArrays(true)
  const found = statement.all(after, to, ...(of === undefined ? [] : [of]), most) as unknown as [
    bigint,
    ...(string | null)[],
  ][]
  const [
    file,
    seconds,
    source,
    sourceChannel,
    sourceAccount,
    destination,
    destinationChannel,
    destinationAccount,
    app,
  ] = FIELDS.map((field) =>
    fields.includes(field) ? fields.indexOf(field) + 1 : fields.length + 1,
  )
  const rows = found.map((values): CdrRow => {
    const at = (column: number | undefined) => values[column as number] as string | null | undefined
    return {
      file: at(file),
      seconds: at(seconds),
      source: at(source),
      source_channel: at(sourceChannel),
      source_account: at(sourceAccount),
      destination: at(destination),
      destination_channel: at(destinationChannel),
      destination_account: at(destinationAccount),
      app: at(app),
    }
  })
  return { rows, last: found.at(-1)?.[0], doubts }
}

/** The oldest of these rows, added to a sum that changes with what stands in them: a third of what it costs to read them. */
export const sumRows = (database: DatabaseSync, terms: CdrTerms, wanted: Rows, sum: number) => {
  const { fields, nameOf } = findColumns(database, terms)
  // As far as it is read, and a character more: one row must not take all the memory.
  const texts = fields.map(
    (field) => `ifnull(substr(${quote(nameOf(field))}, 1, ${mostOf(field) + 1}), '')`,
  )
  const statement = database.prepare(
    `SELECT max(id), group_concat(texts, '') FROM (SELECT rowid AS id, concat_ws(char(1), ${texts.join(', ')}, char(2)) AS texts FROM ${quote(terms.table)} WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?)`,
  )
  statement.setReadBigInts(true)
  statement.setReturnArrays(true)
  const { after, to, most } = wanted
  const found = statement.get(after, to, most) as unknown as [bigint | null, string | null]
  return { last: found[0] ?? undefined, sum: crc32(found[1] ?? '', sum) }
}

const ROW_SIZE = 300 // bytes: a row of MikoPBX's with its share of the table's indexes

/** Behind `boundary` are so many rows; FIRST_ROW: there are no more than these. `before`: about how many are not. */
export const findBoundary = (database: DatabaseSync, terms: CdrTerms, newest: number) => {
  findColumns(database, terms) // a table that is not there is told by name
  const table = quote(terms.table)
  const ask = (sql: string, ...values: number[]): bigint | undefined => {
    const statement = database.prepare(sql)
    statement.setReadBigInts(true)
    return Object.values(statement.get(...values) ?? {})[0] as bigint | undefined
  }
  const boundary = ask(`SELECT rowid FROM ${table} ORDER BY rowid DESC LIMIT 1 OFFSET ?`, newest)
  if (boundary === undefined) return { boundary: FIRST_ROW, before: 0 }
  const first = ask(`SELECT min(rowid) FROM ${table}`) as bigint
  const pages = ask('PRAGMA page_count') as bigint
  const pageSize = ask('PRAGMA page_size') as bigint
  const most = Number(pages * pageSize) / ROW_SIZE
  return { boundary, before: Math.ceil(Math.min(Number(boundary - first), most)) }
}
