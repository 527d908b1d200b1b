// The lines that README gives for a site of one's own: for http {}, for server {}, and a protected location.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const README = readFileSync(join(import.meta.dirname, '..', '..', 'README.md'), 'utf8')

/** The first nginx block behind these words of README. */
export const readmeBlock = (words: string): string => {
  const [, after = ''] = README.split(words)
  const block = /```nginx\n([^]*?)```/.exec(after)?.[1]
  if (block === undefined) throw new Error(`README has no nginx block behind "${words}"`)
  return block
}

/** Instead of our example, as the whole site. */
export const readmeSite = (): string => {
  const [http = '', server = ''] = readmeBlock('site of your own').split('# in server {}')
  return `${http}server {\n    listen 80;\n${server}${readmeBlock('### Anything else')}}\n`
}
