// One configuration file of Asterisk's with all that it includes, read as its own loader reads it: what that passes over
// is passed over here, and told. It never runs `#exec`, and never quotes a value: most of them are passwords.
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, resolve } from 'node:path'
import { nextTurn } from '../clock.ts'
import { findWriters } from '../files/writers.ts'
import { isPattern, listFiles } from './asterisk-glob.ts'
import { readLines, stripComments } from './asterisk-line.ts'
import { createSections, setVariable, strip } from './asterisk-section.ts'
import { readFileMark } from './hold-users.ts'

const MAX_DEPTH = 10 // Asterisk's own bound of includes in includes
const MAX_FILES = 1000 // two includes of the same file on each of ten levels would be 1024 reads
const SLICE = 250 // lines, 2 ms
const MAX_BYTES = 16 * 1024 * 1024 // ten thousand extensions are 3 MB
const AWAY = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']) // for Asterisk too, whoever runs it
const BOM = '\xef\xbb\xbf'

/** How the reading of a file, or of all that a pattern names, ended. */
type Ending = 'read' | 'nothing there' | 'broken off'

/** What goes on from one file of a pattern to the next. */
interface Thread {
  section: ReturnType<ReturnType<typeof createSections>['current']>
  comments: number
  isFirst: boolean
}

/** It does not throw: what cannot be read is a problem. */
export const loadAsteriskFile = async (root: string) => {
  const { sections, current, open } = createSections()
  /** `file:line: what is wrong: the cure`. With any of these Asterisk itself would not load the file. */
  const problems: string[] = []
  /** What Asterisk passes over, and so do we. */
  const warnings: string[] = []
  const marks: string[] = []
  const probes: (() => Promise<string>)[] = []
  const configuration = dirname(resolve(root)) // where a relative name starts, in whichever file it stands
  let level = 0

  /** Before the reading, so that a change during it is seen at the next look. */
  const watch = async (probe: () => Promise<string>): Promise<void> => {
    probes.push(probe)
    marks.push(await probe())
  }

  /** undefined: Asterisk passes it over too, or it is a problem. */
  const readBytes = async (file: string, wantedAt: string): Promise<string | undefined> => {
    try {
      const found = await stat(file)
      const writers = findWriters(file, found.mode)
      if (writers !== undefined) problems.push(`${wantedAt}: ${writers}`)
      else if (!found.isFile()) {
        if (level === 1) problems.push(`${wantedAt}: is no file: name a file`)
        else warnings.push(`${wantedAt}: ${file} is no file: passed over, as Asterisk does`)
      } else if (found.size > MAX_BYTES) {
        problems.push(`${wantedAt}: ${file} is over 16 MiB: is it the right file?`)
      } else return await readFile(file, 'latin1')
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== undefined && AWAY.has(code)) return undefined
      problems.push(
        `${wantedAt}: ${file} cannot be read (${code}): correct the name, or add the user of the service to the group of Asterisk`,
      )
    }
    return undefined
  }

  const readTarget = (
    directive: string,
    place: string,
  ): { kind: string; target: string } | undefined => {
    const kind = directive.replace(/^#([^\0-\x20]*)[^]*$/, '$1').toLowerCase()
    const argument = strip(directive.replace(/^#[^\0-\x20]*/, ''))
    if (kind === 'exec') {
      warnings.push(`${place}: #exec is never run: users that it would print are not known here`)
    } else if (kind !== 'include' && kind !== 'tryinclude') {
      warnings.push(`${place}: an unknown directive: passed over, as Asterisk does`)
    } else if (argument === '') {
      warnings.push(`${place}: #${kind} names no file: passed over, as Asterisk does`)
    } else {
      const target = argument.replace(/^"(.*)"$|^<(.*)>$/, '$1$2')
      return { kind, target: Buffer.from(target, 'latin1').toString('utf8') }
    }
    return undefined
  }

  /** What is wrong, where Asterisk reads no further in the file. */
  const include = async (
    directive: string,
    stack: readonly string[],
    place: string,
  ): Promise<string | undefined> => {
    const { kind, target } = readTarget(directive, place) ?? {}
    if (target === undefined) return undefined
    const ending = await load(resolve(configuration, target), stack, place)
    return ending === 'nothing there' && kind === 'include'
      ? `${target} is not there to be included: correct the name, or write #tryinclude`
      : undefined
  }

  const readInto = async (
    file: string,
    text: string,
    thread: Thread,
    stack: readonly string[],
  ): Promise<string | undefined> => {
    let number = 0
    let openedAt = ''
    for (const line of readLines(thread.isFirst && text.startsWith(BOM) ? text.slice(3) : text)) {
      if (number++ % SLICE === SLICE - 1) await nextTurn()
      const place = `${file}:${number}`
      if (line.tooLong) {
        warnings.push(`${place}: a line over 8190 bytes: passed over, as Asterisk does`)
        continue
      }
      const stripped = stripComments(line.text, thread.comments)
      if (stripped.depth !== thread.comments) openedAt = place
      if (stripped.depth < 0 && thread.comments === 0) {
        warnings.push(
          `${place}: --; closes no ;--, and all that follows is passed over, as Asterisk does: take it out`,
        )
      }
      thread.comments = stripped.depth
      const content = strip(stripped.text)
      if (content === '') continue
      const fault = await readContent(content, thread, stack, place)
      if (fault !== undefined) return `${place}: ${fault}`
    }
    if (thread.comments > 0) {
      warnings.push(
        `${openedAt === '' ? file : openedAt}: ;-- is not closed by --;, and what follows is passed over, as Asterisk does: close it`,
      )
    }
    return undefined
  }

  const readContent = async (
    content: string,
    thread: Thread,
    stack: readonly string[],
    place: string,
  ): Promise<string | undefined> => {
    if (content.startsWith('[')) {
      const opened = open(content, place)
      if ('fault' in opened) return opened.fault
      thread.section = opened
      return undefined
    }
    if (content.startsWith('#')) return include(content, stack, place)
    if (thread.section === undefined) return 'a line before the first [section]: put it into one'
    if (/^\\(?![!-\x7f])/.test(content))
      return 'a \\ before nothing that it could protect: take it out'
    if (!setVariable(thread.section, content)) {
      warnings.push(
        `${place}: neither a section, a directive nor name = value: passed over, as Asterisk does`,
      )
    }
    return undefined
  }

  const load = async (
    pattern: string,
    stack: readonly string[],
    wantedAt: string,
  ): Promise<Ending> => {
    if (level > MAX_DEPTH) {
      warnings.push(`${wantedAt}: ${pattern} is included too deep: at most ${MAX_DEPTH} levels`)
      return 'nothing there'
    }
    level++
    let files = [pattern]
    if (isPattern(pattern)) {
      const list = (): Promise<string[]> => listFiles(pattern)
      await watch(async () => (await list()).join('\n'))
      files = await list()
    }
    const thread: Thread = { section: current(), comments: 0, isFirst: true }
    let count = 0
    for (const file of files) {
      if (stack.includes(file) || probes.length >= MAX_FILES) {
        problems.push(
          stack.includes(file)
            ? `${wantedAt}: ${file} includes itself, and Asterisk may die of it: take one #include out`
            : `${wantedAt}: ${file} is one file too many: at most ${MAX_FILES}`,
        )
        continue
      }
      await watch(() => readFileMark(file))
      const text = await readBytes(file, wantedAt)
      if (text === undefined) continue
      count++
      const fault = await readInto(file, text, thread, [file, ...stack])
      thread.isFirst = false
      if (fault === undefined) continue
      if (stack.length === 0) problems.push(fault)
      else
        warnings.push(`${fault} (the rest of ${basename(file)} is passed over, as Asterisk does)`)
      // and the level stays: Asterisk does not count it back either, so that at most ten such files are borne
      return 'broken off'
    }
    level--
    return count === 0 ? 'nothing there' : 'read'
  }

  const file = resolve(root)
  const ending = await load(file, [], file)
  return {
    sections,
    problems,
    warnings,
    isThere: ending !== 'nothing there',
    /** What the files looked like when they were read, those included and those missing. */
    mark: marks.join('\n'),
    /** What they look like now. */
    readMark: async () => (await Promise.all(probes.map((probe) => probe()))).join('\n'),
  }
}
