// The text of `nginx -T` as a tree of directives, each with its file and line. It reads and never judges.

export interface Directive {
  readonly name: string
  readonly args: readonly string[]
  /** The block's own directives; undefined for a simple one. */
  readonly block: readonly Directive[] | undefined
  readonly file: string
  readonly line: number
}

interface Token {
  text: string
  quoted: boolean
  line: number
}

const FILE = /^# configuration file (.+):$/

/** Words, `{`, `}` and `;` of one file; comments gone, quotes taken off. */
const tokenize = (text: string): Token[] => {
  const tokens: Token[] = []
  let line = 1
  let at = 0
  while (at < text.length) {
    const char = text.charAt(at)
    if (char === '\n') line++
    if (/\s/.test(char)) at++
    else if (char === '#') {
      const end = text.indexOf('\n', at)
      at = end < 0 ? text.length : end
    } else if (char === '{' || char === '}' || char === ';') {
      tokens.push({ text: char, quoted: false, line })
      at++
    } else {
      const began = line
      const quote = char === '"' || char === "'" ? char : ''
      let word = ''
      if (quote !== '') at++
      for (; at < text.length; at++) {
        const next = text.charAt(at)
        if (next === '\n') line++
        if (next === '\\' && at + 1 < text.length) {
          word += quote !== '' && text.charAt(at + 1) === quote ? quote : next + text.charAt(at + 1)
          at++
        } else if (quote === '' ? /[\s;]/.test(next) || opensBlock(text, at, word) : next === quote)
          break
        else word += next
      }
      if (quote !== '') at++
      tokens.push({ text: word, quoted: quote !== '', line: began })
    }
  }
  return tokens
}

/** A brace ends a bare word, but not that of `${name}`. */
const opensBlock = (text: string, at: number, word: string): boolean => {
  const char = text.charAt(at)
  if (char === '{') return !word.endsWith('$')
  return char === '}' && !/\$\{[^}]*$/.test(word)
}

const parseBlock = (tokens: readonly Token[], from: number, file: string) => {
  const found: Directive[] = []
  let at = from
  let words: Token[] = []
  const take = (block: readonly Directive[] | undefined): void => {
    const [name, ...args] = words
    if (name) {
      found.push({
        name: name.text,
        args: args.map(({ text }) => text),
        block,
        file,
        line: name.line,
      })
    }
    words = []
  }
  for (; at < tokens.length; at++) {
    const token = tokens[at] as Token
    if (token.quoted || !'{};'.includes(token.text)) words.push(token)
    else if (token.text === ';') take(undefined)
    else if (token.text === '{') {
      const inner = parseBlock(tokens, at + 1, file)
      take(inner.found)
      at = inner.at
    } else break
  }
  return { found, at }
}

/** Every file of the dump on its own; `include` is not followed here. */
const parseFiles = (dump: string): Map<string, readonly Directive[]> => {
  const files = new Map<string, readonly Directive[]>()
  let name = ''
  let lines: string[] = []
  const close = (): void => {
    if (name !== '') files.set(name, parseBlock(tokenize(lines.join('\n')), 0, name).found)
    lines = []
  }
  for (const line of dump.split('\n')) {
    const next = FILE.exec(line)?.[1]
    if (next === undefined) lines.push(line)
    else {
      close()
      name = next
    }
  }
  close()
  return files
}

const toPattern = (text: string): RegExp =>
  new RegExp(
    `^${text
      .replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`)
      .replaceAll('*', '[^/]*')
      .replaceAll('?', '[^/]')}$`,
  )

/** The whole configuration with every include put in where it stands. */
export const parseNginxDump = (dump: string): readonly Directive[] => {
  const files = parseFiles(dump)
  const [first] = files
  if (!first) return []
  const [main, top] = first
  const prefix = main.slice(0, main.lastIndexOf('/') + 1)
  const expand = (directives: readonly Directive[], depth: number): Directive[] =>
    directives.flatMap((directive) => {
      if (directive.name === 'include' && depth < 16) {
        const [asked = ''] = directive.args
        const pattern = toPattern(asked.startsWith('/') ? asked : prefix + asked)
        return [...files]
          .filter(([file]) => pattern.test(file))
          .flatMap(([, found]) => expand(found, depth + 1))
      }
      const { block } = directive
      return [block ? { ...directive, block: expand(block, depth + 1) } : directive]
    })
  return expand(top, 0)
}

/** Every directive with the blocks it stands in, outermost first. */
export const walk = function* (
  directives: readonly Directive[],
  parents: readonly Directive[] = [],
): Generator<{ directive: Directive; parents: readonly Directive[] }> {
  for (const directive of directives) {
    yield { directive, parents }
    if (directive.block) yield* walk(directive.block, [...parents, directive])
  }
}
