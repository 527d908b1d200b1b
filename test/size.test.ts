// Small is a feature, as law: how long a file, a function and the whole may be, and that nothing lies about dead. A
// file or function that is too long stands in a list with its reason; one that no longer is must leave the list.

import { globSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseSync } from 'oxc-parser'
import t from 'tap'

const ROOT = join(import.meta.dirname, '..')

const FILE = 300
const FUNCTION = 100
/** Of all files of src together. A change that adds lines raises it, and says in its commit what they are for. */
const TOTAL = 25_160

const LONG_FILES: Readonly<Record<string, string>> = {}

/** `file name`, of the function or of what it is bound to. */
const LONG_FUNCTIONS: Readonly<Record<string, string>> = {}

const files = globSync('src/**/*.ts', { cwd: ROOT }).sort()
const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8')
const linesOf = (text: string): number => text.split('\n').length - 1

interface Measured {
  name: string
  /** Without those of the functions inside it. */
  lines: number
}

const FUNCTIONS = new Set(['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'])

/** Every function of a text; a factory's inner functions are their own and not its. */
const measureFunctions = (file: string, text: string): Measured[] => {
  const measured: Measured[] = []
  const walk = (node: unknown, owner: Measured | undefined, bound: string): void => {
    if (Array.isArray(node)) for (const child of node) walk(child, owner, bound)
    if (typeof node !== 'object' || node === null || !('type' in node)) return
    const { type, start, end, id, key } = node as {
      type: string
      start: number
      end: number
      id?: { name?: string } | null
      key?: { name?: string }
    }
    const name = id?.name ?? key?.name ?? bound
    let inside = owner
    if (FUNCTIONS.has(type)) {
      const lines = text.slice(start, end).split('\n').length
      inside = { name, lines }
      measured.push(inside)
      if (owner && lines > 1) owner.lines -= lines
    }
    for (const child of Object.values(node)) walk(child, inside, name)
  }
  walk(parseSync(file, text).program, undefined, '')
  return measured
}

void t.test('functions are measured without what stands inside them', (t) => {
  const text = `const outer = () => {
  const inner = (): number => {
    return 1
  }
  return { one: () => 1, inner }
}
function declared() {
  return 2
}
`
  t.same(measureFunctions('x.ts', text), [
    { name: 'outer', lines: 3 },
    { name: 'inner', lines: 3 },
    { name: 'one', lines: 1 },
    { name: 'declared', lines: 3 },
  ])
  t.end()
})

void t.test(`no file is longer than ${FILE} lines`, (t) => {
  const long = files.filter((file) => linesOf(textOf(file)) > FILE)
  t.same(long, Object.keys(LONG_FILES).toSorted(), 'split it by subject, or list it with a reason')
  t.end()
})

void t.test(`no function is longer than ${FUNCTION} lines`, (t) => {
  const long = files.flatMap((file) =>
    measureFunctions(file, textOf(file))
      .filter(({ lines }) => lines > FUNCTION)
      .map(({ name }) => `${file} ${name}`),
  )
  t.same(
    long.toSorted(),
    Object.keys(LONG_FUNCTIONS).toSorted(),
    'name its parts, or list it with a reason',
  )
  t.end()
})

void t.test(`src is at most ${TOTAL} lines`, (t) => {
  const total = files.reduce((sum, file) => sum + linesOf(textOf(file)), 0)
  t.ok(total <= TOTAL, `${total} lines`)
  t.end()
})

void t.test('every file is imported by another, or is where a program begins', (t) => {
  const entries = /^src\/(?:main|get-auth-token)\.ts$|-worker\.ts$/
  const imported = new Set(
    files.flatMap((file) =>
      Array.from(textOf(file).matchAll(/(?:from |import\()'(\.[^']+\.ts)'/g), ([, target = '']) =>
        relative(ROOT, join(ROOT, file, '..', target)),
      ),
    ),
  )
  t.same(
    files.filter((file) => !entries.test(file) && !imported.has(file)),
    [],
    'remove it, or import it',
  )
  t.end()
})
