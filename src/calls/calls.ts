// Whose call a recording is of, by all sources together: one may add parties that another does not know, and never
// removes one.

import type { CallSource } from './call-source.ts'

/** What the sources say of one recording. */
export interface Told {
  readonly source: CallSource['name']
  readonly parties: readonly string[]
}

export const createCalls = (sources: readonly CallSource[]) => ({
  /** Whether the number surely took part; undefined: no source knows the recording. */
  isParty(recording: string, number: string): boolean | undefined {
    let known: false | undefined
    for (const source of sources) {
      const parties = source.partiesOf(recording)
      if (parties?.includes(number)) return true
      if (parties) known = false
    }
    return known
  },
  /** The same for an operator: each source that knows the recording, and whom it names. */
  explain: (recording: string): Told[] =>
    sources.flatMap((source) => {
      const parties = source.partiesOf(recording)
      return parties ? [{ source: source.name, parties }] : []
    }),
})

export type Calls = ReturnType<typeof createCalls>
