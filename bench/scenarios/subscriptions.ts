// Live subscriptions: what each takes of nginx and of the daemon, how fast they open, and how fast they are ended.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { ask } from '../ask.ts'
import type { ListenJob, Seen } from '../listeners.ts'
import { requestText } from '../load.ts'
import { type Part, type Place, until } from '../place.ts'
import { BASE, CHEAP, login, openPostern } from '../postern.ts'
import { ownBytes, processorSeconds, residentBytes } from '../processor.ts'
import type { RegistryReport } from '../registry-room.ts'
import type { Scenario } from '../scenario.ts'
import { openSite } from '../site.ts'
import { median } from '../statistics.ts'
import { bytes, micros, milliseconds, percent, round, type Table } from '../table.ts'

const LISTENERS = join(import.meta.dirname, '..', 'listeners.ts')
const REGISTRY = join(import.meta.dirname, '..', 'registry-room.ts')
const STREAMS = 10_000
const EACH = 200 // streams of one user
const LIST = 300_000 // subscriptions of the list alone: what an nginx host of the arithmetic has
const LOOKS = 5 // a second
const LIMIT = 300 // seconds that ten thousand streams may take to open, or to end

const seenBy = (part: Part): Seen => {
  const lines = part
    .said()
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
  const last = lines.at(-1)
  return last === undefined ? { open: 0, ended: 0, refused: 0, at: 0 } : (JSON.parse(last) as Seen)
}

const measureList = async (
  place: Place,
  count: number,
  rounds: number,
): Promise<RegistryReport> => {
  const reports: RegistryReport[] = []
  for (let round = 0; round < rounds; round++) {
    const argv = [process.execPath, '--expose-gc', REGISTRY, String(count)]
    const part = place.start('registry', 'back', argv)
    if ((await part.ended) !== 0) throw new Error(part.said())
    reports.push(JSON.parse(part.said()) as RegistryReport)
  }
  return {
    each: median(reports.map((one) => one.each)),
    tick: median(reports.map((one) => one.tick)),
  }
}

/** Streams through nginx, Nchan and the daemon; then the end of one user's, and of all. */
const measureStreams = async (
  place: Place,
  users: number,
): Promise<{ table: Table; values: Record<string, number> }> => {
  const streams = users * EACH
  const postern = await openPostern(place, { cost: CHEAP })
  const site = await openSite(place, { postern: [String(postern.http)], shared: '512M' })
  const requests: string[] = []
  for (const user of postern.users.slice(0, users)) {
    const { access } = await login(postern, user)
    for (let room = 0; room < EACH; room++) {
      requests.push(
        requestText('GET', `${BASE}/sub/room-${room}`, {
          Accept: 'text/event-stream',
          Authorization: `Bearer ${access}`,
        }),
      )
    }
  }
  const job: ListenJob = { port: site.port, requests }
  const file = place.at('listeners.json')
  writeFileSync(file, JSON.stringify(job))
  const memory = (): [nginx: number, daemon: number] => [
    ownBytes(...site.pids),
    residentBytes(postern.pid),
  ]
  const empty = memory()
  const before = [processorSeconds(...site.pids), processorSeconds(postern.pid)] as const
  const beganAt = performance.timeOrigin + performance.now()
  const part = place.start('listeners', 'front', [process.execPath, LISTENERS, file])
  await until(part, () => seenBy(part).open + seenBy(part).refused >= streams, LIMIT)
  const filled = seenBy(part)
  if (filled.refused > 0) throw new Error(`${filled.refused} of ${streams} were refused`)
  const opening = (filled.at - beganAt) / 1000
  const after = [processorSeconds(...site.pids), processorSeconds(postern.pid)] as const
  const full = memory()

  const end = async (path: string, ended: number): Promise<number> => {
    const at = performance.timeOrigin + performance.now()
    const answer = await ask(postern.control, path, { method: 'POST' })
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${answer.body}`)
    await until(part, () => seenBy(part).ended >= ended, LIMIT)
    return (seenBy(part).at - at) / 1000
  }
  const one = await end(`/sessions/end?user=${postern.users[0]}`, EACH)
  const rest = streams - EACH
  const all = rest > 0 ? await end('/sessions/end?all=true', streams) : Number.NaN
  const values = {
    nginxBytes: (full[0] - empty[0]) / streams,
    daemonBytes: (full[1] - empty[1]) / streams,
    openPerSecond: streams / opening,
    nginxSeconds: (after[0] - before[0]) / streams,
    posternSeconds: (after[1] - before[1]) / streams,
    kicksPerSecond: rest > 0 ? rest / all : EACH / one,
  }
  const count = streams.toLocaleString('en-US')
  return {
    values,
    table: {
      title: `${count} EventSources through nginx (one worker), Nchan and one daemon`,
      columns: ['what', 'measured'],
      rows: [
        ['memory of nginx, each', bytes(values.nginxBytes)],
        ['memory of the daemon, each (what it took from the system)', bytes(values.daemonBytes)],
        ['opened a second', round(values.openPerSecond)],
        ['nginx µs to open one', micros(values.nginxSeconds)],
        ['Postern µs to open one, written to SQLite', micros(values.posternSeconds)],
        [`${EACH} of one user ended`, milliseconds(one)],
        ...(rest > 0
          ? [
              [`the other ${rest.toLocaleString('en-US')} ended`, milliseconds(all)],
              ['kicks a second', round(values.kicksPerSecond)],
            ]
          : []),
      ],
      notes: ['From the order to the last byte that the clients saw. One run.'],
    },
  }
}

export const subscriptions: Scenario = {
  name: 'subscriptions',
  explain: 'live subscriptions: memory of each, how fast they open, how fast they are ended',
  async run(place, { rounds, scale }) {
    const streams = await measureStreams(place, Math.max(2, Math.round((STREAMS / EACH) * scale)))
    const sizes = [10_000, 100_000, LIST].map((size) => Math.max(3000, Math.round(size * scale)))
    const lists: [size: number, report: RegistryReport][] = []
    for (const size of sizes) lists.push([size, await measureList(place, size, rounds)])
    const [, largest] = lists.at(-1) ?? [0, { each: 0, tick: 0 }]
    return {
      tables: [
        streams.table,
        {
          title: "The daemon's list of live subscriptions, by itself",
          columns: ['subscriptions', 'memory each', 'one look over all', 'of a core'],
          rows: lists.map(([size, { each, tick }]) => [
            size.toLocaleString('en-US'),
            bytes(each),
            milliseconds(tick),
            percent(tick * LOOKS),
          ]),
          notes: [`Medians of ${rounds} processes; it looks ${LOOKS} times a second.`],
        },
      ],
      values: { ...streams.values, listBytes: largest.each, lookSeconds: largest.tick },
    }
  },
}
