// What a reload cannot bring into force: settings that are read at start only, by their names.

import { isDeepStrictEqual } from 'node:util'

import type { Config } from './config.ts'
import { settings } from './schema.ts'

/** The names of restart-only settings whose values differ. */
export const findRestartOnly = (before: Config, after: Config): string[] =>
  settings
    .filter(
      ({ name, restart }) =>
        restart && !isDeepStrictEqual(before.settings[name], after.settings[name]),
    )
    .map(({ name }) => name)
