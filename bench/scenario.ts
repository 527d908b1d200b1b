// What every scenario is: something that runs for a while and leaves tables, and the numbers that the arithmetic in
// docs/capacity.md rests on.

import type { Place } from './place.ts'
import type { Table } from './table.ts'

export interface Effort {
  /** Seconds that one variant runs in one round. */
  readonly seconds: number
  readonly rounds: number
  /** Of what takes long to fill: 1 is the real amount, less is for a look. */
  readonly scale: number
  /** Whether other products are fetched and measured beside ours. */
  readonly peers: boolean
}

export interface Outcome {
  readonly tables: readonly Table[]
  /** By name; seconds, bytes and numbers a second, as the name says. */
  readonly values: Readonly<Record<string, number>>
}

export interface Scenario {
  readonly name: string
  /** One line, for --help. */
  readonly explain: string
  run(place: Place, effort: Effort): Promise<Outcome>
}

/** Why something cannot be measured here, in words that name the cure. */
export class Skip extends Error {}
