// The sources that the configuration names, which tell whose call a recording is of.

import type { CallSource } from '../calls/call-source.ts'
import { type Calls, createCalls } from '../calls/calls.ts'
import { type Cdr, type CdrEvents, openCdr } from '../calls/cdr.ts'
import type { CdrTerms } from '../calls/cdr-table.ts'
import { createNames } from '../calls/names.ts'
import type { Time } from '../clock.ts'
import type { Config } from '../config/config.ts'

export const cdrTerms = (calls: Config['calls']): CdrTerms => ({
  file: calls.cdrFile,
  table: calls.cdrTable,
  columns: calls.cdrColumns,
  prefixes: calls.cdrPrefixes,
})

/** `cdr`: opens that source, where it is named. */
export const openCalls = (
  calls: Config['calls'],
  cdr: (calls: Config['calls']) => CallSource,
): Calls => {
  const open = { names: () => createNames(calls.namePatterns), cdr: () => cdr(calls) }
  return createCalls(calls.sources.map((name) => open[name]()))
}

/** One for all reloads: from the first configuration that names it, a thread reads it as that one said. */
export const keepCdr = (events: CdrEvents, clock: Pick<Time, 'every' | 'monotonic'>) => {
  let cdr: Cdr | undefined
  return {
    open: (calls: Config['calls']): Cdr => (cdr ??= openCdr(cdrTerms(calls), events, clock)),
    /** Undefined: nothing asks it. */
    state: () => cdr?.state(),
    close: async () => cdr?.close(),
  }
}

export type KeptCdr = ReturnType<typeof keepCdr>
