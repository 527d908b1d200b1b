// A secret that stands in a file of its own, since other users see a command line and a config is passed around.

import { readFileSync } from 'node:fs'

import { ConfigError } from './config-error.ts'

/** The file's text, trimmed; undefined where `file` is empty. `setting`: what names the file, for the operator. */
export const readSecretFile = (file: string, setting: string): string | undefined => {
  if (file === '') return undefined
  let secret: string
  try {
    secret = readFileSync(file, 'utf8').trim()
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException
    throw new ConfigError([
      `${setting}: ${file} cannot be read (${code}): name a file that may be read`,
    ])
  }
  // Nobody names a file in order to show nothing: a cut-off copy must not become "no password".
  if (secret === '')
    throw new ConfigError([`${setting}: ${file} is empty: write the secret into it`])
  return secret
}
