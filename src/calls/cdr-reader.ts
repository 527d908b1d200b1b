// Follows a CDR: its newest rows are read again whenever it changes, the others where a sum of them has changed, in slices.

import { buildCallIndex, type CallIndex, findParties, stemOf } from './call-index.ts'
import type { CallSource } from './call-source.ts'
import { CdrError, lookAtCdrFile, readCdrFile } from './cdr-file.ts'
import { type CdrRow, readCdrRow } from './cdr-row.ts'
import { type CdrTerms, FIRST_ROW, findBoundary, LAST_ROW, readRows, sumRows } from './cdr-table.ts'

/** What a look brought; nothing where nothing changed. */
export type CdrNews =
  | { readonly problem?: string; readonly newest?: undefined; readonly older?: undefined }
  | {
      readonly problem?: undefined
      /** Of all rows but the newest; none: as before. */
      readonly older?: CallIndex | undefined
      readonly newest: CallIndex
      /** How many both know. */
      readonly recordings: number
      /** What the operator should know; the same as before: nothing new. */
      readonly doubts: readonly string[]
    }

const NEWEST = 20_000 // rows: 50 ms; what the PBX still changes is among them
const SLICE = 1000 // rows: 3 ms, in which a -wal cannot begin anew
const SWEEP_PER_ROW = 20e-6 // seconds between two: 7 % of a processor, while the CDR changes; a quarter, where older rows do
const PATIENCE = 5 // seconds in which a passing problem is nobody's business
const ALL = { after: FIRST_ROW, to: LAST_ROW }

type Swept = ReturnType<ReturnType<typeof buildCallIndex>['finish']>

interface Sweep {
  readonly whole: string
  readonly boundary: bigint
  /** Undefined: it looks only whether anything has changed. */
  readonly building?: ReturnType<typeof buildCallIndex>
  /** The last row that was read. */
  at: bigint
  rows: number
  sum: number
}

const countNamed = (rows: readonly CdrRow[]): number =>
  rows.filter(({ file }) => (file ?? '') !== '').length

/** Where no row that names a file is of one in the folder, it is another folder. */
const findLost = ({ file }: CdrTerms, named: number, found: number): string[] =>
  found > 0 || named === 0
    ? []
    : [
        `${file}: ${named} rows name a file, and none is in the folder of recordings: set calls.cdr_prefixes to where the PBX has it`,
      ]

const addTo = (
  { add }: ReturnType<typeof buildCallIndex>,
  rows: readonly CdrRow[],
  { prefixes }: CdrTerms,
): void => {
  for (const row of rows) {
    const call = readCdrRow(row, prefixes)
    if (call) add(call.path, call.parties)
  }
}

export const createCdrReader = (terms: CdrTerms, key: string) => {
  let olderRecordings = 0
  let inForce: Pick<Sweep, 'whole' | 'boundary' | 'sum'> | undefined
  let sweep: Sweep | undefined
  let newest = 0 // rows behind the boundary, at the last reading
  let sweptRows = 0
  let sweptAt = 0
  let sweptMark = ''
  let seen = ''
  let isSettled = false
  let failingSince: number | undefined
  let isPaused = false // a sweep that met a problem, until the next look

  /** `swept`: what a sweep has found up to the boundary. */
  const readNewest = (boundary: bigint, swept?: Swept): CdrNews => {
    const building = buildCallIndex(key)
    let count = 0
    let named = 0
    // In slices as well: of a file in rollback mode a long reading would never find that nothing has moved.
    for (let to = LAST_ROW; ;) {
      const { rows, last, doubts } = readCdrFile(terms.file, (database) =>
        readRows(database, terms, { after: boundary, to, most: SLICE, areNewest: true }),
      )
      addTo(building, rows, terms)
      count += rows.length
      named += countNamed(rows)
      if (last !== undefined && rows.length === SLICE && count < 4 * NEWEST) {
        to = last - 1n
        continue
      }
      const { index, recordings } = building.finish()
      newest = count
      olderRecordings = swept?.recordings ?? olderRecordings
      const all = olderRecordings + recordings
      const lost = findLost(terms, named, all)
      return { older: swept?.index, newest: index, recordings: all, doubts: [...doubts, ...lost] }
    }
  }

  const beginSweep = (whole: string, now: number): void => {
    const { boundary, before } = readCdrFile(terms.file, (database) =>
      findBoundary(database, terms, NEWEST),
    )
    const building = buildCallIndex(key, before)
    sweep = { whole, boundary, building, at: FIRST_ROW, rows: 0, sum: 0 }
    sweptAt = now
  }

  const beginDue = (whole: string, mark: string, now: number): void => {
    const isOlder = inForce?.boundary !== FIRST_ROW && mark !== sweptMark
    // None is left behind the boundary: the table was emptied.
    if (inForce?.whole !== whole || newest > 2 * NEWEST || (isOlder && newest === 0)) {
      beginSweep(whole, now)
    } else if (isOlder && now - sweptAt >= sweptRows * SWEEP_PER_ROW) {
      sweep = { whole, boundary: inForce.boundary, at: FIRST_ROW, rows: 0, sum: 0 }
      sweptAt = now
    } else return
    // A write within the same tick of the file system's clock leaves the same mark: it is looked at twice.
    sweptMark = mark === seen ? mark : ''
  }

  const guarded = (now: number, work: () => CdrNews): CdrNews => {
    try {
      const news = work()
      if (news.newest) failingSince = undefined
      return news
    } catch (error) {
      if (!(error instanceof CdrError)) throw error
      isPaused = true
      seen = ''
      failingSince ??= now
      return error.isPassing && now - failingSince < PATIENCE ? {} : { problem: error.message }
    }
  }

  const lookAt = (now: number): CdrNews => {
    isPaused = false
    const { mark, whole } = lookAtCdrFile(terms.file)
    if (sweep && sweep.whole !== whole) sweep = undefined
    if (!sweep) beginDue(whole, mark, now)
    if (inForce?.whole !== whole) return {} // the sweep brings it all
    if (mark === seen && isSettled) return {}
    isSettled = mark === seen
    seen = mark
    return readNewest(inForce.boundary)
  }

  const goOn = (now: number): CdrNews => {
    if (!sweep) return {}
    const { at, boundary, building, whole, rows: swept, sum: before } = sweep
    if (at < boundary) {
      const wanted = { after: at, to: boundary, most: building ? SLICE : 4 * SLICE }
      const {
        last = boundary,
        rows,
        sum,
      } = readCdrFile(terms.file, (database) => {
        // The sum first: what changes in between, changes the next one.
        const summed = sumRows(database, terms, wanted, before)
        return building
          ? { ...readRows(database, terms, wanted), sum: summed.sum }
          : { ...summed, rows: [] }
      })
      if (building) addTo(building, rows, terms)
      sweep.at = last
      sweep.rows += rows.length
      sweep.sum = sum
      return {}
    }
    sweep = undefined
    if (lookAtCdrFile(terms.file).whole !== whole) return {}
    if (!building) {
      if (before !== inForce?.sum) beginSweep(whole, now)
      return {}
    }
    sweptRows = swept
    const news = readNewest(boundary, building.finish())
    inForce = { whole, boundary, sum: before }
    return news
  }

  return {
    /** `now`: seconds that only grow. */
    look: (now: number): CdrNews => guarded(now, () => lookAt(now)),
    /** A slice of what takes longer. */
    goOn: (now: number): CdrNews => guarded(now, () => goOn(now)),
    isSweeping: (): boolean => sweep !== undefined && !isPaused,
  }
}

/** What is wrong or doubtful, as far as the newest rows tell. */
export const inspectCdr = (terms: CdrTerms): readonly string[] => {
  try {
    const { rows, doubts } = readCdrFile(terms.file, (database) =>
      readRows(database, terms, { ...ALL, most: SLICE, areNewest: true }),
    )
    const found = rows.filter((row) => readCdrRow(row, terms.prefixes)).length
    return [...doubts, ...findLost(terms, countNamed(rows), found)]
  } catch (error) {
    if (!(error instanceof CdrError)) throw error
    return [error.message]
  }
}

/** For a command: of each recording that it is asked for, the rows alone that may be of it. Throws a CdrError. */
export const readCdr = (terms: CdrTerms): CallSource => ({
  name: 'cdr',
  partiesOf(recording) {
    const { rows } = readCdrFile(terms.file, (database) =>
      readRows(database, terms, { ...ALL, most: -1, of: stemOf(recording) }),
    )
    const building = buildCallIndex('')
    addTo(building, rows, terms)
    return findParties([building.finish().index], '', recording)
  },
})
