// Asterisk's configuration syntax, as its own loader understands it: files → sections, includes and
// templates followed. It never runs `#exec`, and never quotes a value: most of them are passwords.
import { glob, readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { findWriters } from '../files/writers.ts'
import { nextTurn } from '../clock.ts'
import { readFileMark } from './hold-users.ts'

export interface Section {
  readonly name: string
  readonly template: boolean
  /** `file:line` of the header. */
  readonly place: string
  /** In order; the last of a name counts. Names in lower case. */
  readonly variables: { name: string; value: string }[]
}

const MAX_DEPTH = 10 // Asterisk's own bound: an include that includes its parent ends there
const MAX_FILES = 1000 // two includes of the same file on each of ten levels would be 1024 reads
const SLICE = 500 // lines, 4 ms
const MAX_BYTES = 16 * 1024 * 1024 // ten thousand extensions are 3 MB

/** The value that counts. */
export const readVariable = ({ variables }: Section, name: string): string | undefined =>
  variables.findLast((variable) => variable.name === name)?.value

const listFiles = async (pattern: string, folder: string): Promise<string[]> => {
  const found: string[] = []
  for await (const file of glob(pattern, { cwd: folder })) found.push(resolve(folder, file))
  return found.sort()
}

interface Stripped {
  text: string
  depth: number
  unmatched: boolean
}

/** As Asterisk's ast_strip: every byte up to the space goes. A no-break space is text, of a name or a password too. */
export const strip = (text: string): string => {
  let start = 0
  let end = text.length
  while (start < end && text.charAt(start) <= ' ') start++
  while (end > start && text.charAt(end - 1) <= ' ') end--
  return text.slice(start, end)
}

/** `;` to the end of the line, `;-- … --;` nested and over lines, and `\;` for the character itself. */
const stripComments = (line: string, open: number): Stripped => {
  let [text, depth, from] = ['', open, 0]
  for (;;) {
    const at = line.indexOf(';', from)
    const before = line.slice(from, at === -1 ? undefined : at)
    if (at === -1) return { text: depth === 0 ? text + before : text, depth, unmatched: false }
    if (before.endsWith('\\')) {
      if (depth === 0) text += `${before.slice(0, -1)};`
      from = at + 1
    } else if (/^;--(?!-)/.test(line.slice(at, at + 4))) {
      if (depth === 0) text += before
      depth++
      from = at + 3
    } else if (depth > 0) {
      if (before.endsWith('--')) depth--
      from = at + 1
    } else {
      return { text: text + before, depth, unmatched: before.endsWith('--') }
    }
  }
}

/** Reads one file and all that it includes. It does not throw: what cannot be read is a problem. */
export const loadAsteriskConfig = async (root: string) => {
  const sections: Section[] = []
  /** `file:line: what is wrong: the cure`. With any of these Asterisk itself would not load the file. */
  const problems: string[] = []
  /** What Asterisk passes over in silence, and so do we. */
  const warnings: string[] = []
  const marks: string[] = []
  const probes: (() => Promise<string>)[] = []

  /** Before the reading, so that a change during it is seen at the next look. */
  const watch = async (probe: () => Promise<string>): Promise<void> => {
    probes.push(probe)
    marks.push(await probe())
  }

  // A search through all would make 30,000 extensions of one template 10 s of work.
  const byName = new Map<string, Section[]>()
  const findSection = (name: string, type?: string): Section | undefined =>
    byName
      .get(name)
      ?.findLast((section) => type === undefined || readVariable(section, 'type') === type)

  const openSection = (header: string, place: string): Section | undefined => {
    const close = header.indexOf(']')
    if (close === -1) {
      problems.push(`${place}: a section header without its ]: close it`)
      return undefined
    }
    const name = header.slice(1, close)
    const rest = header.slice(close + 1)
    let options: string[] = []
    if (rest.startsWith('(')) {
      const end = rest.indexOf(')')
      if (end === -1) {
        problems.push(`${place}: [${name}]( without its ): close it`)
        return undefined
      }
      options = rest.slice(1, end).split(',').map(strip)
    }

    const added = options.find((option) => option.startsWith('+'))
    let section: Section | undefined = {
      name,
      template: options.includes('!'),
      place,
      variables: [],
    }
    if (added !== undefined) {
      // `(+type=auth)` picks among sections of one name, which pjsip.conf has by habit
      section = findSection(name, /^\+type=(.+)$/.exec(added)?.[1])
      if (section === undefined) {
        problems.push(
          `${place}: [${name}](+) adds to a section that is not there: drop the (+), or put the section before it`,
        )
        return undefined
      }
    } else {
      sections.push(section)
      const namesakes = byName.get(name)
      if (namesakes) namesakes.push(section)
      else byName.set(name, [section])
    }
    for (const option of options) {
      if (option === '!' || option.startsWith('+')) continue
      const base = findSection(option)
      if (base === undefined) {
        problems.push(
          `${place}: [${name}] wants the template [${option}], which is not there: put it before this section`,
        )
      } else section.variables.push(...base.variables)
    }
    return section
  }

  const setVariable = (section: Section, line: string, place: string): void => {
    const at = line.indexOf('=')
    const appends = line[at - 1] === '+'
    const name = strip(line.slice(0, Math.max(0, appends ? at - 1 : at))).toLowerCase()
    if (name === '') {
      warnings.push(
        `${place}: neither a section, a directive nor name = value: passed over, as Asterisk does`,
      )
      return
    }
    const value = strip(line.slice(line[at + 1] === '>' ? at + 2 : at + 1))
    const before = appends ? (readVariable(section, name) ?? '') : ''
    section.variables.push({ name, value: before + value })
  }

  const readText = async (file: string, wantedAt: string): Promise<string | undefined> => {
    await watch(() => readFileMark(file))
    try {
      const found = await stat(file)
      const writers = findWriters(file, found.mode)
      if (writers !== undefined) problems.push(`${wantedAt}: ${writers}`)
      else if (!found.isFile()) problems.push(`${wantedAt}: ${file} is no file: name a file`)
      else if (found.size > MAX_BYTES)
        problems.push(`${wantedAt}: ${file} is over 16 MiB: is it the right file?`)
      else return await readFile(file, 'utf8')
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      problems.push(
        `${wantedAt}: ${file} cannot be read (${code}): correct the name, or add the user of the service to the group of Asterisk`,
      )
    }
    return undefined
  }

  const include = async (
    directive: string,
    section: Section | undefined,
    file: string,
    stack: readonly string[],
    place: string,
  ): Promise<void> => {
    const kind = directive.replace(/^#([^\0-\x20]*)[^]*$/, '$1').toLowerCase()
    const argument = strip(directive.replace(/^#[^\0-\x20]*/, ''))
    if (kind === 'exec') {
      warnings.push(`${place}: #exec is never run: users that it would print are not known here`)
      return
    }
    if (kind !== 'include' && kind !== 'tryinclude') {
      warnings.push(`${place}: an unknown directive: passed over, as Asterisk does`)
      return
    }
    const target = argument.replace(/^"(.*)"$|^<(.*)>$/, '$1$2')
    const folder = dirname(file)
    let files = [resolve(folder, target)]
    if (/[*?[]/.test(target)) {
      const list = (): Promise<string[]> => listFiles(target, folder)
      await watch(async () => (await list()).join('\n'))
      files = await list()
    }
    for (const found of files) {
      if (kind === 'tryinclude' && (await readFileMark(found)) === 'away') {
        await watch(() => readFileMark(found))
      } else await readInto(found, section, [file, ...stack], place)
    }
  }

  const readInto = async (
    file: string,
    outer: Section | undefined,
    stack: readonly string[],
    wantedAt: string,
  ): Promise<void> => {
    if (stack.includes(file)) {
      problems.push(`${wantedAt}: ${file} includes itself: take one #include out`)
      return
    }
    if (stack.length >= MAX_DEPTH || probes.length >= MAX_FILES) {
      problems.push(
        `${wantedAt}: ${file} is included too deep, or is one file too many: at most ${MAX_DEPTH} levels and ${MAX_FILES} files`,
      )
      return
    }
    const text = await readText(file, wantedAt)
    if (text === undefined) return

    let section = outer
    let broken = false
    let comment = { depth: 0, place: '' }
    for (const [index, line] of text
      .replace(/^\uFEFF/, '')
      .split('\n')
      .entries()) {
      if (index % SLICE === SLICE - 1) await nextTurn()
      const place = `${file}:${index + 1}`
      const stripped = stripComments(line, comment.depth)
      if (stripped.unmatched) problems.push(`${place}: --; closes no ;--: take it out`)
      if (stripped.depth > comment.depth) comment = { depth: stripped.depth, place }
      comment.depth = stripped.depth
      const content = strip(stripped.text)
      if (content === '') continue
      if (content.startsWith('[')) {
        section = openSection(content, place)
        broken = section === undefined
      } else if (content.startsWith('#')) {
        await include(content, section, file, stack, place)
      } else if (section !== undefined) {
        setVariable(section, content, place)
      } else if (!broken) {
        problems.push(`${place}: a line before the first [section]: put it into one`)
      }
    }
    // also what a file looks like while it is being written
    if (comment.depth > 0) problems.push(`${comment.place}: ;-- is not closed by --;: close it`)
  }

  const file = resolve(root)
  await readInto(file, undefined, [], file)
  return {
    sections,
    problems,
    warnings,
    /** What the files looked like when they were read, those included and those missing. */
    mark: marks.join('\n'),
    /** What they look like now. */
    readMark: async () => (await Promise.all(probes.map((probe) => probe()))).join('\n'),
  }
}
