// Where the public test vectors lie: JSON Web vectors, JSON texts, naughty strings. They are not ours and not
// in this repository; a machine without them skips those tests and says so.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const FOLDER =
  process.env['POSTERN_VECTORS'] ?? join(import.meta.dirname, '../../../shared/vectors')

export const vectorsFile = (name: string): string => join(FOLDER, name)

/** The options of a test that needs these vectors: skips it, with the reason, where they are not. */
export const needs = (name: string): { skip: string | false } => ({
  skip: existsSync(vectorsFile(name))
    ? false
    : `no ${vectorsFile(name)}: set POSTERN_VECTORS to a folder with the public vectors`,
})

export const readVectors = (name: string): unknown =>
  JSON.parse(readFileSync(vectorsFile(name), 'utf8'))
