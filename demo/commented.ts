// Lines that a shipped file has as a comment, and the same without the signs: what its reader is told to take away.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const SHIPPED = join(import.meta.dirname, '..', 'nginx')

/** From the line that begins so to the end of its block, or that line alone where it opens none. */
export const uncomment = (file: string, begins: string): [from: string, to: string] => {
  const lines = readFileSync(join(SHIPPED, file), 'utf8').split('\n')
  const first = lines.findIndex((line) => line.trimStart().startsWith(`# ${begins}`))
  if (first < 0) throw new Error(`${file} has no comment that begins with ${begins}`)
  const close = String(lines[first]).replace(/#.*/, '# }')
  const last = String(lines[first]).endsWith('{') ? lines.indexOf(close, first) : first
  const block = lines.slice(first, last + 1).join('\n')
  return [block, block.replaceAll(/^( *)# /gm, '$1')]
}
