// A file → a Config, or one ConfigError with every problem and its line. Check-config, start and reload
// all come through here, so what one accepts no other refuses. Nothing here prints or remembers.

import { isUtf8 } from 'node:buffer'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { parse, TomlError } from 'smol-toml'
import { findWriters } from '../files/writers.ts'
import { ConfigError } from './config-error.ts'
import { type Config, toConfig } from './config.ts'
import { createLocator } from './locate.ts'
import { type Problem, readSettings } from './read.ts'
import { findWarnings } from './warnings.ts'

export const CONFIG_FILE = '/etc/postern/postern.toml'

const parseToml = (text: string, file: string) => {
  try {
    return parse(text)
  } catch (error) {
    /* c8 ignore next: the parser throws nothing else, and hiding what it might would be worse */
    if (!(error instanceof TomlError)) throw error
    // Only the first line: below it the parser shows the line of the file, and a secret may stand there.
    const what = error.message.replaceAll(/^Invalid TOML document: |\n[^]*$/g, '')
    throw new ConfigError([`${file}:${error.line}:${error.column}: not TOML: ${what}`])
  }
}

export interface LoadedConfig {
  readonly config: Config
  /** `file:line` of a setting, for what shows only when its value is used. */
  place(setting: string): string
  /** Settings that no longer have an effect, and what may not be meant; as lines. */
  readonly warnings: readonly string[]
}

export const readConfig = (text: string, file: string): LoadedConfig => {
  const read = readSettings(parseToml(text, file))
  const locate = createLocator(text, parse)
  const toLines = (found: readonly Problem[]): string[] =>
    found
      .map(({ path, text: what }) => ({ what, line: locate(path) }))
      .sort((a, b) => a.line - b.line)
      .map(({ line, what }) => `${file}:${line}: ${what}`)
  if ('problems' in read) throw new ConfigError(toLines(read.problems))
  const config = toConfig(read.values)
  return {
    config,
    place: (setting) => `${file}:${locate(setting.split('.'))}`,
    warnings: toLines([...read.warnings, ...findWarnings(config)]),
  }
}

/** By the code of the failed read. */
const CURES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file: copy postern.example.toml there, or name the file to read',
  EACCES:
    'may not be read: run this as root (sudo); the service reads it by its group (chgrp postern, chmod 0640)',
  EISDIR: 'is a folder: name the file in it',
}

const readText = (file: string): string => {
  let bytes: Buffer
  let writers: string | undefined
  try {
    const fd = openSync(file, 'r')
    try {
      writers = findWriters(file, fstatSync(fd).mode)
      bytes = readFileSync(fd)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    const code = String((error as NodeJS.ErrnoException).code)
    throw new ConfigError([`${file}: ${CURES[code] ?? `cannot be read (${code})`}`])
  }
  if (writers !== undefined) throw new ConfigError([writers])
  if (!isUtf8(bytes)) throw new ConfigError([`${file}: is not UTF-8: save it as UTF-8`])
  return new TextDecoder().decode(bytes) // without a byte order mark
}

export const openConfig = (file: string): LoadedConfig => readConfig(readText(file), file)

export const loadConfig = (file: string): Config => openConfig(file).config
