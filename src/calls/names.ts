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

/** With a dash too many nobody knows where the second field ends: only the first surely is what it was, where there are two. */
const first = (fields: readonly string[]): readonly string[] =>
  fields.length < 2 ? [] : fields.slice(0, 1)
const both = (fields: readonly string[]): readonly string[] =>
  fields.length === 2 ? fields : first(fields)
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

interface Pattern {
  /** Whether a name can be of this form, whatever its parts hold. */
  fits(name: string): boolean
  /** Who took part, where there is one way to read a name that fits. */
  readonly parties: RegExp
}

/** `texts`: what stands between the parts; `isNumber`: the name begins with a digit. */
const createFit = (texts: readonly string[], isNumber: boolean) => {
  const [first = '', ...others] = texts
  const last = others.pop() as string
  return (name: string): boolean => {
    let at = first.length
    if (!name.startsWith(first) || (isNumber && !/^[0-9]/.test(name.slice(at, at + 1))))
      return false
    for (const text of others) {
      const found = name.indexOf(text, at)
      if (found < 0) return false
      at = found + text.length
    }
    return name.length >= at + last.length && name.endsWith(last)
  }
}

/**
 * A pattern of the operator's own, for the whole name: text, and parts in braces. `{party}` is the number of somebody who
 * took part, any other part is whatever stands there, and a caller may have chosen it.
 */
export const parseNamePattern = (pattern: string): Pattern | { problem: string } => {
  if (pattern.length > MAX_PATTERN) return { problem: `has over ${MAX_PATTERN} characters` }
  // Text and names of parts by turns.
  const pieces = pattern.split(PARTS)
  const texts = pieces.filter((_, n) => n % 2 === 0)
  const parts = pieces.filter((_, n) => n % 2 === 1)
  if (texts.some((text) => /[{}/]/.test(text))) {
    return { problem: 'has a brace or a slash: a part is a name in braces, such as {date}' }
  }
  const last = parts.lastIndexOf('party')
  if (last === -1) return { problem: 'has no {party}: it would tell of nobody' }
  const behind = texts.slice(1)
  if (behind.slice(0, -1).includes('')) {
    return { problem: 'has two parts without text between them: nobody knows where one ends' }
  }
  if (behind.some((text) => /^[0-9]/.test(text))) {
    return { problem: 'has a digit behind a part: nobody knows where the part ends' }
  }
  // Where only text and parties stand before the last party, nothing can move it, and what is behind does not matter. Else
  // no part may hold a character with which the text between two parts begins: then a name has as many of these as the
  // pattern, all of them the pattern's own.
  const isFixed = parts.slice(0, last).every((part) => part === 'party')
  const stops = literal(
    behind
      .slice(0, -1)
      .map((text) => text.slice(0, 1))
      .join(''),
  )
  const read = isFixed ? parts.slice(0, last + 1) : parts
  const source = read.map(
    (part, n) => (part === 'party' ? '([0-9]+)' : `[^${stops}]*`) + literal(behind[n] as string),
  )
  const end = read.length === parts.length ? '$' : ''
  return {
    fits: createFit(texts, /^\{(?:date|time|party)\}/.test(pattern)), // these no caller chose
    parties: new RegExp(`^${literal(texts[0] as string)}${source.join('')}${end}`),
  }
}

/** `patterns`: the operator's own, good ones; a name that fits some is of no other form. */
export const createNames = (patterns: readonly string[]): CallSource => {
  const own = patterns.map((pattern) => {
    const parsed = parseNamePattern(pattern)
    if ('problem' in parsed) throw new Error(`name pattern ${pattern} ${parsed.problem}`)
    return parsed
  })
  const read = (name: string): readonly string[] | undefined => {
    const told = own
      .filter(({ fits }) => fits(name))
      .map(({ parties }) => parties.exec(name)?.slice(1) ?? [])
    if (told.length === 0) return readKnown(name)
    return told.reduce((some, others) => some.filter((number) => others.includes(number)))
  }
  return {
    name: 'names',
    partiesOf: (recording) =>
      read(recording.slice(recording.lastIndexOf('/') + 1))?.filter((text) => NUMBER.test(text)),
  }
}
