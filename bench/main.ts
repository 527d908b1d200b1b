// script/bench: runs scenarios, prints their tables as Markdown, and with --write puts them into docs/capacity.md.

import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'

import { reckon } from './capacity.ts'
import { describeMachine, readMeasured, writeDocument } from './document.ts'
import { openPlace, type Place } from './place.ts'
import { type Effort, type Outcome, type Scenario, Skip } from './scenario.ts'
import { check } from './scenarios/check.ts'
import { checks } from './scenarios/checks.ts'
import { instances } from './scenarios/instances.ts'
import { login } from './scenarios/login.ts'
import { redis } from './scenarios/redis.ts'
import { refresh } from './scenarios/refresh.ts'
import { subscriptions } from './scenarios/subscriptions.ts'
import { renderTable } from './table.ts'

const SCENARIOS: readonly Scenario[] = [
  check,
  checks,
  login,
  refresh,
  subscriptions,
  redis,
  instances,
]
const FULL: Effort = { seconds: 2, rounds: 5, scale: 1, peers: false }
const QUICK: Effort = { seconds: 0.3, rounds: 1, scale: 0.02, peers: false }
const EX_USAGE = 64

const USAGE = `usage: script/bench [--seconds N] [--rounds N] [--peers] [--write | --quick] [scenario…]

${SCENARIOS.map(({ name, explain }) => `  ${name.padEnd(14)}${explain}`).join('\n')}

Without a scenario all of them, about a quarter of an hour. Leave the machine alone meanwhile.
  --peers   fetch other products and measure them beside ours
  --write   put what was found into docs/capacity.md and bench/measured.json
  --quick   a look whether it works: its numbers say nothing`

const say = (text = ''): void => {
  process.stdout.write(`${text}\n`)
}

const fail = (message: string, code: number): never => {
  process.stderr.write(`bench: ${message}\n`)
  process.exit(code)
}

const read = () => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        seconds: { type: 'string' },
        rounds: { type: 'string' },
        peers: { type: 'boolean', default: false },
        write: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
  } catch (error) {
    return fail(`${(error as Error).message}\n${USAGE}`, EX_USAGE)
  }
}

const { values: options, positionals } = read()
if (options.help) {
  say(USAGE)
  process.exit(0)
}
if (options.quick && options.write) fail(`--quick measures nothing to write\n${USAGE}`, EX_USAGE)
const wanted =
  positionals.length === 0
    ? SCENARIOS
    : positionals.map(
        (name) =>
          SCENARIOS.find((one) => one.name === name) ??
          fail(`there is no scenario ${name}\n${USAGE}`, EX_USAGE),
      )
const start = options.quick ? QUICK : FULL
const numberOf = (name: 'seconds' | 'rounds', otherwise: number): number => {
  const text = options[name]
  if (text === undefined) return otherwise
  return Number(text) > 0
    ? Number(text)
    : fail(`--${name} takes a number above 0\n${USAGE}`, EX_USAGE)
}
const effort: Effort = {
  ...start,
  seconds: numberOf('seconds', start.seconds),
  rounds: Math.ceil(numberOf('rounds', start.rounds)),
  peers: options.peers,
}

let place: Place | undefined
let failed = false
let stopped = false
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    stopped = true
    void place?.close().then(() => process.exit(1))
  })
}

const commandOf = (name: string): string => {
  const flags = [
    ...(options.seconds === undefined ? [] : [`--seconds ${options.seconds}`]),
    ...(options.rounds === undefined ? [] : [`--rounds ${options.rounds}`]),
    ...(options.peers ? ['--peers'] : []),
  ]
  return ['script/bench', ...flags, name].join(' ')
}

const run = async (scenario: Scenario): Promise<Outcome | undefined> => {
  place = openPlace()
  try {
    return await scenario.run(place, effort)
  } catch (error) {
    if (error instanceof Skip) say(`Left out: ${error.message}.`)
    else {
      // The others may well work: a long run is not lost for one of them.
      process.stderr.write(`bench: ${scenario.name}: ${String((error as Error).stack)}\n`)
      failed = true
    }
    return undefined
  } finally {
    await place.close()
  }
}

const machine = describeMachine()
say(`${machine}.`)
const measured = { ...readMeasured(), machine }
for (const scenario of wanted) {
  const { name } = scenario
  say(`\n## ${name}\n`)
  const [load = 0] = loadavg()
  const outcome = await run(scenario)
  if (stopped) await new Promise<never>(() => undefined) // the signal's own end comes
  if (!outcome) continue
  for (const table of outcome.tables) say(`${renderTable(table)}\n`)
  const day = new Date().toISOString().slice(0, 10)
  measured.scenarios[name] = { command: commandOf(name), day, load, ...outcome }
}
if (!options.quick && wanted.length > 1) {
  say('## capacity\n')
  const values = Object.entries(measured.scenarios).map(([name, one]) => [name, one.values])
  for (const table of reckon(Object.fromEntries(values))) say(`${renderTable(table)}\n`)
}
if (options.write) {
  try {
    writeDocument(measured)
  } catch (error) {
    fail((error as Error).message, 1)
  }
}
process.exit(failed ? 1 : 0)
