// Names of files as Asterisk's #include takes them: the C library's glob(), with braces.
import { readdir } from 'node:fs/promises'
import { join, parse } from 'node:path'

const MAX_PATTERNS = 1000 // {1,2}{1,2}… on one line would be 2^1000

/** `a{b,c}` → `ab`, `ac`. */
const expandBraces = (pattern: string): string[] => {
  const open = pattern.indexOf('{')
  const choices: string[] = []
  let [depth, from] = [0, open + 1]
  for (let at = open; at !== -1 && at < pattern.length; at++) {
    const character = pattern.charAt(at)
    if (character === '{') depth++
    if (character === '}') depth--
    if (depth > 0 && (character !== ',' || depth > 1)) continue
    choices.push(pattern.slice(from, at))
    from = at + 1
    if (depth > 0) continue
    const patterns: string[] = []
    for (const choice of choices) {
      if (patterns.length >= MAX_PATTERNS) break
      patterns.push(...expandBraces(pattern.slice(0, open) + choice + pattern.slice(from)))
    }
    return patterns
  }
  return [pattern]
}

const CLASSES = { digit: '0-9', alpha: 'A-Za-z', alnum: '0-9A-Za-z', lower: 'a-z', upper: 'A-Z' }

/** POSIX's names for sets of characters, which JavaScript's patterns lack: `[[:digit:]]` → `[0-9]`. */
export const spellOutClasses = (pattern: string): string =>
  pattern.replace(
    /\[:(digit|alpha|alnum|lower|upper):\]/g,
    (_, name: keyof typeof CLASSES) => CLASSES[name],
  )

/** One part of a path. `*` takes nothing that begins with a dot, and `**` is no more than `*`. */
const compilePart = (part: string): RegExp => {
  const source = spellOutClasses(part).replace(
    /\\.|\*+|\?|\[([!^]?)(\]?[^\]]*)\]|[.+^$(){}|[\]/]/g,
    (found, not: string | undefined, set: string | undefined) => {
      if (found.startsWith('\\')) return found.replace(/^\\(\w)/, '$1')
      if (set !== undefined) return `[${not ? '^' : ''}${set.replace(/[\\\]^]/g, '\\$&')}]`
      if (found.startsWith('*')) return '[^]*'
      return found === '?' ? '[^]' : `\\${found}`
    },
  )
  try {
    return new RegExp(`^(?!\\.)${source}$`)
  } catch {
    return /^(?!)/ // [z-a] is nothing to the C library
  }
}

const matchParts = async (folder: string, parts: readonly string[]): Promise<string[]> => {
  const [part, ...rest] = parts
  if (part === undefined) return [folder]
  if (!isPattern(part)) return matchParts(join(folder, part), rest)
  const wanted = compilePart(part)
  const names = await readdir(folder).catch((): string[] => [])
  const found: string[] = []
  for (const name of names) {
    if (wanted.test(name)) found.push(...(await matchParts(join(folder, name), rest)))
  }
  return found
}

/** What names more than one file, or may come to. */
export const isPattern = (text: string): boolean => /[*?[{]/.test(text)

/** In the order in which they are read. Of what is no pattern: itself, also where it is not there. */
export const listFiles = async (pattern: string): Promise<string[]> => {
  const found: string[] = []
  for (const one of expandBraces(pattern)) {
    const { root } = parse(one)
    found.push(...(await matchParts(root, one.slice(root.length).split('/'))).sort())
  }
  return found
}
