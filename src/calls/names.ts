// Whose call a recording is of, by its name: only the last part of its path, and only where the form of the name says
// which number surely is an extension. What a caller shows of themselves stands there too, and proves nothing.

import type { CallSource } from './call-source.ts'

const NUMBER = /^[0-9]+$/

/** The last part of a name that FreePBX made: the unique id of the call, `_in` or `_out` of one direction alone, endings. */
const UNIQUE_ID = /^[0-9]{9,12}\.[0-9]+(?:_(?:in|out))?(?:\.[A-Za-z][A-Za-z0-9]{1,4})*$/
const DIRECTION = /^(?:in|out)(?:\.[A-Za-z][A-Za-z0-9]{1,4})*$/
const DATE = /^[0-9]{8}$/
const TIME = /^[0-9]{6}$/
/** Wazo: the caller, the called, seconds. */
const WAZO = /^user-(.+)-[0-9]{10}(?:\.[0-9]+)?(?:\.[A-Za-z][A-Za-z0-9]{1,4})*$/
/** MikoPBX, of a call that was handed on: the others of its names hold no number. */
const MIKOPBX =
  /^transfer_([^_]*)_([^_]*)_(?:[^_]+-)?[0-9]{9,12}\.[0-9]+(?:[-_](?:in|out))?(?:\.[A-Za-z][A-Za-z0-9]{1,4})*$/

/** With a dash too many nobody knows where the second field ends: only the first surely is what it was. */
const both = (fields: readonly string[]): readonly string[] =>
  fields.length === 2 ? fields : fields.slice(0, 1)
const first = (fields: readonly string[]): readonly string[] => fields.slice(0, 1)
const second = (fields: readonly string[]): readonly string[] =>
  fields.length === 2 ? fields.slice(1) : []
const none = (): readonly string[] => []

/** By the type with which the name begins: which of the two fields after it are extensions. */
const TYPES: ReadonlyMap<string, (fields: readonly string[]) => readonly string[]> = new Map([
  ['out', second], // dialled, who dialled
  ['external', first], // who was called, what the caller shows
  ['internal', both],
  ['ondemand', both],
  ['exten', first],
  ['parked', first],
  ['in', none], // written in two orders
  ['generic', none],
  ['force', none],
  ['q', none], // a queue, what the caller shows
  ['rg', none],
  ['conf', none],
])

/**
 * TYPE-FIELD-FIELD-DATE-TIME-[SYSTEM-]UNIQUEID, from the right: a caller's number may hold dashes and look like a date, so the
 * last date is the one that FreePBX wrote. Undefined: no such name.
 */
const readFreePbx = (name: string): readonly string[] | undefined => {
  const parts = name.split('-')
  const [type = ''] = parts
  const isAt = (n: number, form: RegExp): boolean => form.test(parts[n] ?? '')
  const end = parts.length - (isAt(parts.length - 1, DIRECTION) ? 2 : 1)
  if (!isAt(end, UNIQUE_ID)) return undefined
  let at = end - 2
  while (at > 0 && !(isAt(at, DATE) && isAt(at + 1, TIME))) at--
  if (at < 1) return undefined
  const fields = parts.slice(1, at)
  const read = TYPES.get(type)
  if (read) return read(fields)
  // A page: the group, who spoke. A conference is written in the same form, with its room twice.
  if (fields.length !== 2 || fields[1] !== 'always' || !NUMBER.test(type)) return undefined
  return fields[0] === type ? [] : first(fields)
}

const readKnown = (name: string): readonly string[] | undefined => {
  const fields = readFreePbx(name)
  if (fields) return fields
  const [, pair] = WAZO.exec(name) ?? []
  if (pair !== undefined) return pair.split('-').length === 2 ? pair.split('-') : []
  return MIKOPBX.exec(name)?.slice(1)
}

const PARTS = /\{([a-z][a-z0-9_]*)\}/g
const MAX_PATTERN = 255
const literal = (text: string): string => text.replaceAll(/[^A-Za-z0-9]/g, String.raw`\$&`)

/**
 * A pattern of the operator's own, for the whole name: text, and parts in braces. `{party}` is the number of somebody who
 * took part, any other part is whatever stands there up to the text that follows, so that there is one way to read a name.
 */
export const parseNamePattern = (pattern: string): RegExp | { problem: string } => {
  if (pattern.length > MAX_PATTERN) return { problem: `has over ${MAX_PATTERN} characters` }
  // Text and names of parts by turns.
  const pieces = pattern.split(PARTS)
  if (pieces.some((piece, n) => n % 2 === 0 && /[{}/]/.test(piece))) {
    return { problem: 'has a brace or a slash: a part is a name in braces, such as {date}' }
  }
  if (!pattern.includes('{party}')) return { problem: 'has no {party}: it would tell of nobody' }
  let source = ''
  for (const [n, piece] of pieces.entries()) {
    if (n % 2 === 0) {
      source += literal(piece)
      continue
    }
    const next = pieces.slice(n + 1, n + 2).join('') // there is one: split gives them by turns
    if (next === '' && n + 2 < pieces.length) {
      return { problem: 'has two parts without text between them: nobody knows where one ends' }
    }
    if (piece === 'party' && /^[0-9]/.test(next)) {
      return { problem: 'has a digit behind {party}: nobody knows where the number ends' }
    }
    const other = next === '' ? '[^]+' : `[^${literal(next.slice(0, 1))}]+`
    source += piece === 'party' ? '([0-9]+)' : other
  }
  return new RegExp(`^${source}$`)
}

/** `patterns`: the operator's own, good ones; the first that fits is believed, before any form that we know. */
export const createNames = (patterns: readonly string[]): CallSource => {
  const own = patterns.map((pattern) => {
    const parsed = parseNamePattern(pattern)
    if ('problem' in parsed) throw new Error(`name pattern ${pattern} ${parsed.problem}`)
    return parsed
  })
  const read = (name: string): readonly string[] | undefined => {
    for (const pattern of own) {
      const found = pattern.exec(name)
      if (found) return found.slice(1)
    }
    return readKnown(name)
  }
  return {
    name: 'names',
    partiesOf: (recording) =>
      read(recording.slice(recording.lastIndexOf('/') + 1))?.filter((text) => NUMBER.test(text)),
  }
}
