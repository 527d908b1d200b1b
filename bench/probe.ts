// How long checks take while something else goes on: a steady stream of them, slow enough to disturb nothing.

import type { Report } from './generator.ts'
import { drive } from './load.ts'
import type { Place } from './place.ts'
import type { Postern } from './postern.ts'
import { CHECK_REQUEST } from './scenarios/checks.ts'

const RATE = 200 // a second
export const PROBE = `checks at ${RATE}/s with remembered tokens, on the same core as the load's generator`

export const probe = async (
  place: Place,
  { http }: Pick<Postern, 'http'>,
  tokens: readonly string[],
  seconds: number,
): Promise<Report> => {
  const report = await drive(place, {
    to: http,
    connections: 8,
    seconds,
    rate: RATE,
    template: CHECK_REQUEST,
    credentials: [...tokens],
  })
  if ((report.statuses['204'] ?? 0) < report.requests) {
    throw new Error(`checks were refused: ${JSON.stringify(report.statuses)}`)
  }
  return report
}
