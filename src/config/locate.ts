// Finds the line on which a setting stands. It reads only TOML that the parser has already accepted, so
// it follows structure and judges nothing: on other text it may answer nonsense, never loop.

/** The line of the setting, else of the nearest table around it that the file has, else 1. */
export type Locate = (path: readonly (string | number)[]) => number

const idOf = (path: readonly (string | number)[]): string => JSON.stringify(path.map(String))

export const createLocator = (toml: string): Locate => {
  const lines = new Map<string, number>()
  /** How many elements an array of tables has so far. */
  const counts = new Map<string, number>()
  let at = 0
  let line = 1

  const note = (path: readonly string[], where: number) => {
    const id = idOf(path)
    if (!lines.has(id)) lines.set(id, where)
  }
  const ends = () => at >= toml.length
  const moveTo = (end: number) => {
    for (; at < end; at++) if (toml[at] === '\n') line++
  }
  const skip = (pattern: RegExp): string => {
    pattern.lastIndex = at
    const found = pattern.exec(toml)?.[0] ?? ''
    moveTo(at + found.length)
    return found
  }
  const skipBlank = () => skip(/(?:[ \t\r\n]|#[^\n]*)*/y)

  const readString = (): string => {
    const found = skip(
      /"""(?:\\[^]|[^\\])*?"{3,5}|'''[^]*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[^\s,\]}#=.]+/y,
    )
    if (found.startsWith("'")) return found.slice(1, -1)
    if (!found.startsWith('"') || found.startsWith('"""')) return found
    try {
      return JSON.parse(found) as string
    } catch {
      return found.slice(1, -1) // \e, \x41 and \U0001F600 are TOML's alone: nobody names a setting so
    }
  }

  const readKey = (): string[] => {
    const path: string[] = []
    do {
      skipBlank()
      path.push(readString())
      skipBlank()
    } while (skip(/\./y) !== '')
    return path
  }

  const readPair = (table: readonly string[]) => {
    const where = line
    const path = [...table]
    for (const part of readKey()) {
      path.push(part)
      note(path, where)
    }
    skip(/=/y)
    readValue(path)
  }

  const readValue = (path: readonly string[]) => {
    skipBlank()
    note(path, line)
    const open = skip(/[[{]/y)
    if (open === '') {
      // Dates and floats hold dots and spaces; only strings may hold the marks that end a value.
      if (/["']/.test(toml.charAt(at))) readString()
      else skip(/[^,\]}#\n]+/y)
      return
    }
    let index = 0
    for (skipBlank(); !ends() && skip(/[\]}]/y) === ''; skipBlank()) {
      if (open === '[') readValue([...path, String(index++)])
      else readPair(path)
      skipBlank()
      skip(/,/y)
    }
  }

  /** `[a.b]` below `[[a]]` belongs to the last element of `a`. */
  const enter = (key: readonly string[], isElement: boolean, where: number): string[] => {
    const path: string[] = []
    for (const [depth, part] of key.entries()) {
      path.push(part)
      note(path, where)
      const count = counts.get(idOf(path)) ?? 0
      const isNew = isElement && depth === key.length - 1
      if (isNew) counts.set(idOf(path), count + 1)
      if (isNew || count > 0) path.push(String(isNew ? count : count - 1))
      note(path, where)
    }
    return path
  }

  let table: string[] = []
  for (skipBlank(); !ends(); skipBlank()) {
    const before = at
    const where = line
    const bracket = skip(/\[\[?/y)
    if (bracket === '') {
      readPair(table)
    } else {
      table = enter(readKey(), bracket === '[[', where)
      skip(/\]\]?/y)
    }
    if (at === before) moveTo(at + 1)
  }

  return (path) => {
    for (let length = path.length; length > 0; length--) {
      const found = lines.get(idOf(path.slice(0, length)))
      if (found !== undefined) return found
    }
    return 1
  }
}
