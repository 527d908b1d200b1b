// README's own commands, so that there is no second copy of them which could be right while README is wrong.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const README = readFileSync(join(import.meta.dirname, '..', '..', 'README.md'), 'utf8')

const sectionUnder = (heading: string): string => {
  const [, after] = README.split(`\n${heading}\n`)
  const [section] = (after ?? '').split(/\n#{1,3} /)
  if (!section)
    throw new Error(`README.md has no section "${heading}": test/fresh reads its commands there`)
  return section
}

/** The shell blocks under a heading, with `#`s as README has them. A block in a list is indented with it. */
export const blocksUnder = (heading: string): string[] =>
  Array.from(
    sectionUnder(heading).matchAll(/^( *)```sh\n([^]*?)\n\1```$/gm),
    ([, indent = '', block = '']) => block.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
  )

/** The one block that has a text in it. */
export const blockWith = (heading: string, text: string): string => {
  const [block, ...more] = blocksUnder(heading).filter((block) => block.includes(text))
  if (block === undefined || more.length > 0) {
    throw new Error(`README.md must have one sh block with "${text}" under "${heading}"`)
  }
  return block
}

/** The one command in running text that begins so. */
export const inlineUnder = (heading: string, begin: string): string => {
  const text = sectionUnder(heading).replaceAll(/^ *```[^]*?```$/gm, '')
  const codes = Array.from(text.matchAll(/`([^`]+)`/g), ([, code = '']) =>
    code.replaceAll(/\s+/g, ' '),
  )
  const command = codes.find((code) => code.startsWith(begin))
  if (command === undefined) throw new Error(`README.md must have \`${begin}…\` under "${heading}"`)
  return command
}
