// A line of Asterisk's configuration: how the text of a file falls into lines, and what of a line is comment. Texts are
// bytes here, each a character.

const LINE = 8191 // bytes: Asterisk's buffer is one more

export interface Line {
  text: string
  /** Asterisk passes it over. */
  tooLong: boolean
}

export function* readLines(text: string): Generator<Line> {
  let from = 0
  const take = (): string => {
    const newline = text.indexOf('\n', from)
    const end = newline === -1 ? text.length : newline + 1
    const chunk = text.slice(from, Math.min(end, from + LINE))
    from += chunk.length
    const zero = chunk.indexOf('\0') // where C ends a text
    return zero === -1 ? chunk : chunk.slice(0, zero)
  }
  const isCut = (line: string): boolean => line.length === LINE && !line.endsWith('\n')
  while (from < text.length) {
    const line = take()
    if (isCut(line)) while (from < text.length && isCut(take()));
    yield { text: line, tooLong: isCut(line) }
  }
}

interface Stripped {
  text: string
  /** How many comments are open after it; below 0 one more was closed than opened, and all that follows is comment. */
  depth: number
}

/** `;` to the end of the line, `;-- … --;` nested and over lines, and `\;` for the character itself. */
export const stripComments = (line: string, open: number): Stripped => {
  let [text, depth, from] = ['', open, 0]
  let isText = depth === 0
  for (;;) {
    const at = line.indexOf(';', from)
    const before = line.slice(from, at === -1 ? undefined : at)
    if (at === -1) return { text: isText ? text + before : text, depth }
    from = at + 1
    if (before.endsWith('\\')) {
      if (isText) text += `${before.slice(0, -1)};`
    } else if (/^;--(?!-)/.test(line.slice(at, at + 4))) {
      if (isText) text += before
      isText = false
      depth++
      from = at + 3
    } else if (before.endsWith('--')) {
      depth--
      // closed once too often, the line itself still counts
      if (isText) text += `${before};`
      isText ||= depth === 0
    } else if (depth === 0) {
      return { text: isText ? text + before : text, depth }
    } else if (isText) text += `${before};`
  }
}
