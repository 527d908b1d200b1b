// The copyright file: whose work the package carries, and on which terms. A package without a licence text stops
// the build: what may not be passed on must not be.

import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Carried {
  name: string
  version: string
  license: string
  text: string
}

/** On every Debian machine, so it is named and not repeated (Debian policy 12.5). */
const APACHE = 'The text is in /usr/share/common-licenses/Apache-2.0.'

/** Published without the licence file of its repository: the notice from there. */
const NOTICES: Readonly<Record<string, string>> = {
  '@redis/client':
    'Copyright (c) 2022-2025, Redis, inc.\n\nThe MIT licence, in the words of the one at the top of this file.',
}

const read = (folder: string): Carried => {
  const { name, version, license } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  ) as Omit<Carried, 'text'>
  const [file] = globSync('LICEN[CS]E*', { cwd: folder })
  const text =
    license === 'Apache-2.0'
      ? APACHE
      : (NOTICES[name] ?? (file && readFileSync(join(folder, file), 'utf8')))
  if (text === undefined) {
    throw new Error(
      `${folder} has no licence text: find the one of its repository, or do without the package`,
    )
  }
  return { name, version, license, text: text.trim() }
}

const RULE = '-'.repeat(78)

export const copyright = (
  ownLicence: string,
  packages: Iterable<string>,
  runtime: string,
): string => {
  const carried = Array.from(packages, read)
  const node = read(runtime)
  return [
    'Postern (everything but what is named below):',
    ownLicence.trim(),
    RULE,
    'In /usr/lib/postern/*.mjs there are, from https://www.npmjs.com, these packages:',
    ...carried.map(
      ({ name, version, license, text }) => `${name} ${version} (${license})\n\n${text}`,
    ),
    RULE,
    `/usr/lib/postern/node is Node.js ${node.version}, as https://nodejs.org publishes it:`,
    node.text,
    '',
  ].join('\n\n')
}
