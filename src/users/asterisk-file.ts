// One configuration file of Asterisk's with all that it includes, read as its own loader reads it: what that passes over
// is passed over here, and told. It never runs `#exec`, and never quotes a value: most of them are passwords.
import { readFile, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { inSlices, nextTurn } from '../clock.ts'
import { findWriters } from '../files/writers.ts'
import { isPattern, listFiles } from './asterisk-glob.ts'
import { readLines, stripComments } from './asterisk-line.ts'
import { createSections, setVariable, strip } from './asterisk-section.ts'
import { readFileMark } from './hold-users.ts'

const MAX_DEPTH = 10 // Asterisk's own bound of includes in includes
const MAX_FILES = 5000 // a file for each phone; three includes of one file on each of ten levels would be 59,049
const SLICE = 250 // lines, 2 ms
const PROBES = 100 // files looked at in a turn
const MAX_BYTES = 16 * 1024 * 1024 // ten thousand extensions are 3 MB
const AWAY = new Set(['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']) // for Asterisk too, whoever runs it
const MAX_WARNINGS = 1000 // a file of another kind is nothing else
const BOM = '\xef\xbb\xbf'

/** What goes on from one file of a pattern to the next. */
interface Thread {
  section: ReturnType<ReturnType<typeof createSections>['current']>
  comments: number
  isFirst: boolean
}

/** It does not throw: what cannot be read is a problem. */
export const loadAsteriskFile = async (root: string) => {
  const { sections, current, open } = createSections()
  /** `file:line: what is wrong: the cure`. What is not known of a file may be what tells a trunk from a phone. */
  const problems: string[] = []
  /** What is passed over. */
  const warnings: string[] = []
  const warn = (line: string): void => {
    if (warnings.length < MAX_WARNINGS) warnings.push(line)
  }
  const marks: string[] = []
  const probes: (() => Promise<string>)[] = []
  const configuration = dirname(resolve(root)) // where a relative name starts, in whichever file it stands
  let level = 0

  /** Before the reading, so that a change during it is seen at the next look. */
  const watch = async (probe: () => Promise<string>): Promise<void> => {
    probes.push(probe)
    marks.push(await probe())
  }

  /** undefined: nothing is there. What is passed over, or is a problem, is empty. */
  const readBytes = async (file: string, wantedAt: string): Promise<string | undefined> => {
    try {
      const found = await stat(file)
      const writers = findWriters(file, found.mode)
      if (writers !== undefined) problems.push(`${wantedAt}: ${writers}`)
      else if (!found.isFile()) {
        if (level === 1) problems.push(`${wantedAt}: is no file: name a file`)
        else warn(`${wantedAt}: ${file} is no file: passed over, as Asterisk does`)
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
    return ''
  }

  const readTarget = (
    directive: string,
    place: string,
  ): { kind: string; target: string } | undefined => {
    const kind = directive.replace(/^#([^\0-\x20]*)[^]*$/, '$1').toLowerCase()
    const argument = strip(directive.replace(/^#[^\0-\x20]*/, ''))
    if (kind === 'exec') {
      warn(`${place}: #exec is never run: users that it would print are not known here`)
    } else if (kind !== 'include' && kind !== 'tryinclude') {
      warn(`${place}: an unknown directive: passed over, as Asterisk does`)
    } else if (argument === '') {
      warn(`${place}: #${kind} names no file: passed over, as Asterisk does`)
    } else {
      const target = argument.replace(/^"(.*)"$|^<(.*)>$/, '$1$2')
      return { kind, target: Buffer.from(target, 'latin1').toString('utf8') }
    }
    return undefined
  }

  const include = async (
    directive: string,
    stack: readonly string[],
    place: string,
  ): Promise<void> => {
    const { kind, target } = readTarget(directive, place) ?? {}
    if (target === undefined) return
    const isThere = await load(resolve(configuration, target), stack, place)
    if (!isThere && kind === 'include') {
      problems.push(
        `${place}: ${target} is not there to be included, and Asterisk then reads no further: correct the name, or write #tryinclude`,
      )
    }
  }

  const readInto = async (
    file: string,
    text: string,
    thread: Thread,
    stack: readonly string[],
  ): Promise<void> => {
    let number = 0
    let openedAt = ''
    for (const line of readLines(thread.isFirst && text.startsWith(BOM) ? text.slice(3) : text)) {
      if (number++ % SLICE === SLICE - 1) await nextTurn()
      const place = `${file}:${number}`
      if (line.tooLong) {
        warn(`${place}: a line over 8190 bytes: passed over, as Asterisk does`)
        continue
      }
      const stripped = stripComments(line.text, thread.comments)
      if (stripped.depth !== thread.comments) openedAt = place
      if (stripped.depth < 0 && thread.comments === 0) {
        warn(
          `${place}: --; closes no ;--, and all that follows is passed over, as Asterisk does: take it out`,
        )
      }
      thread.comments = stripped.depth
      const content = strip(stripped.text)
      if (content === '') continue
      const fault = await readContent(content, thread, stack, place)
      if (fault !== undefined) {
        warn(`${place}: ${fault} (Asterisk reads no further in this file, Postern does)`)
      }
    }
    if (thread.comments > 0) {
      warn(
        `${openedAt === '' ? file : openedAt}: ;-- is not closed by --;, and what follows is passed over, as Asterisk does: close it`,
      )
    }
  }

  const readContent = async (
    content: string,
    thread: Thread,
    stack: readonly string[],
    place: string,
  ): Promise<string | undefined> => {
    if (content.startsWith('[')) {
      const { section, fault } = open(content, place)
      thread.section = section
      return fault
    }
    if (content.startsWith('#')) {
      await include(content, stack, place)
      return undefined
    }
    if (thread.section === undefined) return 'a line before the first [section]: put it into one'
    if (/^\\(?![!-\x7f])/.test(content)) {
      thread.section.broken = true
      return 'a \\ before nothing that it could protect: take it out'
    }
    if (!setVariable(thread.section, content)) {
      warn(
        `${place}: neither a section, a directive nor name = value: passed over, as Asterisk does`,
      )
    }
    return undefined
  }

  /** False: nothing is there. */
  const load = async (
    pattern: string,
    stack: readonly string[],
    wantedAt: string,
  ): Promise<boolean> => {
    if (level > MAX_DEPTH) {
      warn(`${wantedAt}: ${pattern} is included too deep: at most ${MAX_DEPTH} levels`)
      return true
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
      if (stack.includes(file)) {
        count++
        warn(
          `${wantedAt}: ${file} includes itself, and Asterisk may die of it: passed over: take one #include out`,
        )
        continue
      }
      if (probes.length >= MAX_FILES) {
        problems.push(`${wantedAt}: ${file} is one file too many: at most ${MAX_FILES}`)
        continue
      }
      await watch(() => readFileMark(file))
      const text = await readBytes(file, wantedAt)
      if (text === undefined) continue
      count++
      await readInto(file, text, thread, [file, ...stack])
      thread.isFirst = false
    }
    level--
    return count > 0
  }

  const file = resolve(root)
  const isThere = await load(file, [], file)
  return {
    sections,
    problems,
    warnings,
    isThere,
    /** What the files looked like when they were read, those included and those missing. */
    mark: marks.join('\n'),
    /** What they look like now. */
    async readMark(): Promise<string> {
      const seen: string[] = []
      for await (const probe of inSlices(probes, PROBES)) seen.push(await probe())
      return seen.join('\n')
    },
  }
}
