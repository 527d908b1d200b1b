// The text of `nginx -T` as a tree of directives, each with its file and line. It reads and never judges.

import { matchesGlob } from 'node:path'

export interface Directive {
  readonly name: string
  readonly args: readonly string[]
  /** The block's own directives; undefined for a simple one. */
  readonly block: readonly Directive[] | undefined
  readonly file: string
  readonly line: number
}

const FILE = /^# configuration file (.+):\n/m
// A comment, a sign, a quoted word, a bare one, divided by what nginx divides at: a no-break space is a character of a
// word. A brace ends a bare word, but not that of `${name}`.
const TOKEN =
  /#.*|[{};]|"(?:\\[^]|[^"\\])*"|'(?:\\[^]|[^'\\])*'|(?:\\[^]|\$\{[^}]*\}|[^ \t\r\n;{}])+/g
const MAX_DEPTH = 16 // of includes: one that includes itself ends here

/** Quotes taken off, and the backslash before one of their own kind; nginx keeps every other. */
const unquote = (word: string): string =>
  word.replace(/^(["'])([^]*)\1$/, (_, quote: string, text: string) =>
    text.replaceAll(`\\${quote}`, quote),
  )

const parseFile = (file: string, text: string): readonly Directive[] => {
  const top: Directive[] = []
  const blocks = [top]
  let words: string[] = []
  let line = 1
  let began = 1
  let at = 0
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    line += text.slice(at, index).split('\n').length - 1
    at = index
    if (token === '}') blocks.pop()
    else if (token === ';' || token === '{') {
      const [name, ...args] = words
      const block = token === '{' ? [] : undefined
      if (name !== undefined) blocks.at(-1)?.push({ name, args, block, file, line: began })
      if (block) blocks.push(block)
      words = []
    } else if (!token.startsWith('#')) {
      if (words.length === 0) began = line
      words.push(unquote(token))
    }
  }
  return top
}

/** The whole configuration with every include put in where it stands. */
export const parseNginxDump = (dump: string): readonly Directive[] => {
  const [, ...parts] = dump.split(FILE)
  const files = new Map<string, readonly Directive[]>()
  for (let at = 0; at < parts.length; at += 2) {
    const [name = '', text = ''] = parts.slice(at, at + 2)
    files.set(name, parseFile(name, text))
  }
  const [first] = files
  if (!first) return []
  const [main, top] = first
  const prefix = main.slice(0, main.lastIndexOf('/') + 1)
  const expand = (directives: readonly Directive[], depth: number): Directive[] =>
    directives.flatMap((directive) => {
      const { name, args, block } = directive
      if (name !== 'include' || depth >= MAX_DEPTH) {
        return [block ? { ...directive, block: expand(block, depth + 1) } : directive]
      }
      const [asked = ''] = args
      const pattern = asked.startsWith('/') ? asked : prefix + asked
      return [...files]
        .filter(([file]) => matchesGlob(file, pattern))
        .flatMap(([, found]) => expand(found, depth + 1))
    })
  return expand(top, 0)
}

/** A directive, and the blocks it stands in, innermost first. */
export interface Spot {
  readonly directive: Directive
  readonly around: readonly Directive[]
}

export const walk = function* (
  directives: readonly Directive[],
  around: readonly Directive[] = [],
): Generator<Spot> {
  for (const directive of directives) {
    yield { directive, around }
    if (directive.block) yield* walk(directive.block, [directive, ...around])
  }
}
