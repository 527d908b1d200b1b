// docs/capacity.md and what was measured for it. The document's tables are made from bench/measured.json alone, so that
// no number there can differ from what a run has found.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'

import { reckon } from './capacity.ts'
import type { Outcome } from './scenario.ts'
import { bytes, renderTable, type Table } from './table.ts'

const ROOT = join(import.meta.dirname, '..')
const DOCUMENT = join(ROOT, 'docs', 'capacity.md')
const MEASURED = join(ROOT, 'bench', 'measured.json')

interface Occasion {
  command: string
  day: string
  /** The average of the minute before: above 3 it is not the bench alone, and the numbers are rough. */
  load: number
}

export interface Measured {
  /** What it was measured on. */
  machine: string
  scenarios: Record<string, Outcome & Occasion>
}

export const describeMachine = (): string => {
  const [first] = cpus()
  return `${cpus().length} cores (${first?.model.trim() ?? 'unknown'}), ${bytes(totalmem())} of memory, Node ${process.versions.node}`
}

export const readMeasured = (): Measured =>
  existsSync(MEASURED)
    ? (JSON.parse(readFileSync(MEASURED, 'utf8')) as Measured)
    : { machine: '', scenarios: {} }

const tables = (all: readonly Table[]): string => all.map(renderTable).join('\n\n')

/** The document with every block made anew; a block nobody has measured is a fault, lest it grows old unseen. */
export const renderDocument = (text: string, { machine, scenarios }: Measured): string =>
  text.replace(
    /(<!-- bench:([a-z]+) -->\n)[^]*?(<!-- \/bench:\2 -->)/g,
    (_all, before: string, name: string, after: string) => {
      if (name === 'machine') return `${before}${machine}.\n${after}`
      if (name === 'capacity') {
        const values = Object.entries(scenarios).map(([key, one]) => [key, one.values] as const)
        return `${before}${tables(reckon(Object.fromEntries(values)))}\n${after}`
      }
      const found = scenarios[name]
      if (!found)
        throw new Error(`docs/capacity.md wants ${name}: run script/bench --write ${name}`)
      const { command, day, load } = found
      return `${before}\`${command}\`, ${day}, load average ${load.toFixed(1)} when it began:\n\n${tables(found.tables)}\n${after}`
    },
  )

export const readDocument = (): string => readFileSync(DOCUMENT, 'utf8')

export const writeDocument = (measured: Measured): void => {
  // First what was measured: where the document wants more, nothing of a long run is lost.
  writeFileSync(MEASURED, `${JSON.stringify(measured, null, 2)}\n`)
  spawnSync(join(ROOT, 'node_modules', '.bin', 'oxfmt'), [MEASURED]) // as `npm run check` wants it
  writeFileSync(DOCUMENT, renderDocument(readDocument(), measured))
}
