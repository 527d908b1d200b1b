// Sections of Asterisk's configuration as its loader builds them, line by line: headers, templates, additions, values.
import { isUtf8 } from 'node:buffer'
import { spellOutClasses } from './asterisk-glob.ts'

export interface Variable {
  /** In lower case: most of Asterisk looks for it so. */
  name: string
  /** As it stands in the file. */
  written: string
  value: string
}

export interface Section {
  readonly name: string
  readonly template: boolean
  /** `file:line` of the header. */
  readonly place: string
  /** In order. */
  readonly variables: readonly Variable[]
  /**
   * It cannot be read whole, or is made of one that cannot. Asterisk reads no further there; here the others go on, and
   * what is left of it takes logins away (it may be what tells a trunk) and gives none.
   */
  readonly broken: boolean
}

interface Draft extends Section {
  template: boolean
  broken: boolean
  variables: Variable[]
}

const NAME = 79 // bytes of a section's name; Asterisk cuts the rest off

/** The value that counts. */
export const readVariable = ({ variables }: Section, name: string): string | undefined =>
  variables.findLast((variable) => variable.name === name)?.value

/** What Asterisk takes the section for: of several types the first counts. */
export const readType = ({ variables }: Section): string | undefined =>
  variables.find(({ name }) => name === 'type')?.value

/** As Asterisk's ast_strip: every byte up to the space goes. A no-break space is text, of a name or a password too. */
export const strip = (text: string): string => {
  let start = 0
  let end = text.length
  while (start < end && text.charAt(start) <= ' ') start++
  while (end > start && text.charAt(end - 1) <= ' ') end--
  return text.slice(start, end)
}

export const splitList = (text: string): string[] => text.split(',').map(strip).filter(Boolean)

/** Of every line of that name, for what Asterisk adds up, or where it is enough that one says so. */
export const readAll = ({ variables }: Section, ...names: readonly string[]): string[] =>
  variables.filter(({ name }) => names.includes(name)).flatMap(({ value }) => splitList(value))

/**
 * Bytes → text. To Asterisk a password is bytes: those that are no UTF-8 were written as Latin-1, and never become
 * the one character that stands for whatever cannot be read, or any of them would do for a password.
 */
const decode = (bytes: string): string => {
  if (!/[\x80-\xff]/.test(bytes)) return bytes
  const buffer = Buffer.from(bytes, 'latin1')
  return isUtf8(buffer) ? buffer.toString('utf8') : bytes
}

/** Names are compared so, in ASCII alone. */
export const fold = (text: string): string =>
  text.replace(/[A-Z]+/g, (found) => found.toLowerCase())

/** `type=auth&username=201`: each a pattern for a name and one for a value, found anywhere in them. It may throw. */
const matchesFilter = ({ template, variables }: Draft, filter: string): boolean => {
  let takesTemplates = false
  const isMet = filter.split('&').every((expression) => {
    const [name = '', value] = expression.split('=').map(strip)
    if (value === undefined) return false
    if (name === 'TEMPLATES') {
      takesTemplates = /^(?:include|restrict)$/i.test(value)
      return fold(value) === 'include' || (takesTemplates && template)
    }
    const forName = new RegExp(spellOutClasses(name))
    const forValue = new RegExp(spellOutClasses(value))
    return variables.some((one) => forName.test(one.written) && forValue.test(one.value))
  })
  return isMet && (!template || takesTemplates)
}

export const createSections = () => {
  const sections: Draft[] = []
  // A search through all would make 30,000 extensions of one template 10 s of work.
  const byName = new Map<string, Draft[]>()
  const missed = new Set<string>() // by (+), of which nobody knows what it was to change
  let current: Draft | undefined

  const find = (name: string, matches: (section: Draft) => boolean): Draft | undefined =>
    (name === '' ? sections : byName.get(fold(name)))?.find(matches)

  const miss = (name: string): void => {
    missed.add(fold(name))
    for (const namesake of byName.get(fold(name)) ?? []) namesake.broken = true
  }

  const findAdded = (name: string, filter: string): Draft | undefined =>
    find(name, (section) => (filter === '' ? !section.template : matchesFilter(section, filter)))

  /** What follows belongs to it, in an included file too. `fault`: why it is broken. */
  const open = (header: string, place: string): { section: Draft; fault: string | undefined } => {
    const close = header.indexOf(']')
    const name = (close === -1 ? header.replace(/\([^]*/, '') : header.slice(0, close)).slice(
      1,
      NAME + 1,
    )
    const shown = decode(name)
    const rest = close === -1 ? '' : header.slice(close + 1)
    const end = rest.indexOf(')')
    let fault: string | undefined
    if (close === -1) fault = 'a section header without its ]: close it'
    else if (rest.startsWith('(') && end === -1) fault = `[${shown}]( without its ): close it`
    // Left open, it may have been an addition.
    if (fault !== undefined && /\(.*\+/.test(header)) miss(name)
    const options = rest.startsWith('(') && end !== -1 ? rest.slice(1, end).split(',') : []

    const draft: Draft = { name: shown, template: false, place, variables: [], broken: false }
    let section = draft
    for (const option of options) {
      if (option === '!') section.template = true
      else if (option.startsWith('+')) {
        let added: Draft | undefined
        try {
          added = findAdded(name, option.slice(1))
        } catch {
          // no pattern: Asterisk finds nothing by it either
        }
        if (added === undefined) {
          miss(name)
          fault ??= `[${shown}](+) adds to a section that is not there: drop the (+), or put the section before it`
          continue
        }
        if (section === draft) {
          added.template ||= draft.template
          added.broken ||= draft.broken
          added.variables.push(...draft.variables)
        }
        section = added
      } else {
        const base = find(option, () => true)
        section.variables.push(...(base?.variables ?? []))
        section.broken ||= base?.broken ?? false
        if (base === undefined) {
          fault ??= `[${shown}] wants the template [${decode(option)}], which is not there: put it before this section, without a space`
        }
      }
    }
    section.broken ||= fault !== undefined || missed.has(fold(name))
    if (section === draft) {
      sections.push(draft)
      const namesakes = byName.get(fold(name))
      if (namesakes) namesakes.push(draft)
      else byName.set(fold(name), [draft])
    }
    current = section
    return { section, fault }
  }

  return {
    sections: sections as readonly Section[],
    /** The one that an included file goes on with: that of the last header, wherever it stood. */
    current: () => current,
    open,
  }
}

/** A line below a header. False: it is none that Asterisk can read, which passes it over. */
export const setVariable = (section: Draft, line: string): boolean => {
  const escaped = line.startsWith('\\') ? 1 : 0 // the next character is the name's first, whatever it is
  const text = line.slice(escaped)
  const at = text.indexOf('=', escaped)
  const appends = at > escaped && text[at - 1] === '+'
  const written = decode(strip(text.slice(0, Math.max(0, appends ? at - 1 : at))))
  if (written === '') return false
  const { variables } = section
  const name = fold(written)
  const after = text.slice(at + 1)
  const before = appends ? variables.findLast((one) => one.written === written) : undefined
  if (before === undefined) {
    const value = decode(strip(!appends && after.startsWith('>') ? after.slice(1) : after))
    variables.push({ name, written, value })
    return true
  }
  // Asterisk looks by value for the one to replace: the first that has it or, of an empty one, the first of the name.
  const replaced = variables.findIndex(
    (one) => one.name === name && (before.value === '' || fold(one.value) === fold(before.value)),
  )
  variables[replaced] = { name, written, value: strip(before.value + decode(after)) }
  return true
}
