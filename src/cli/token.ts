// `postern token inspect`: what a token says, and what a check would answer. Read from stdin, since an argument
// is seen by every user of the machine; what it prints holds nothing that could be used as a token.

import { parseArgs } from 'node:util'

import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { askDaemon } from './control-client.ts'
import { BAD_CONFIG, type Command, type Io, IO_FAILED, OK, REFUSED, USAGE } from './io.ts'
import { readPiped } from './prompt.ts'

const OPTIONS = {
  config: { type: 'string' },
  action: { type: 'string' },
  resource: { type: 'string' },
  json: { type: 'boolean' },
} as const

const INSTANTS = new Set(['exp', 'iat', 'nbf', 'until'])

/** One segment of the token as text for people; undefined where it is no JSON object. */
const readSegment = (
  segment: string | undefined,
): Readonly<Record<string, unknown>> | undefined => {
  try {
    const value: unknown = JSON.parse(Buffer.from(segment ?? '', 'base64url').toString('utf8'))
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : undefined
  } catch {
    return undefined
  }
}

const describe = (name: string, value: unknown): string => {
  const shown = JSON.stringify(value).replaceAll(
    /[^ -~]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return INSTANTS.has(name) && typeof value === 'number' && Math.abs(value) < 8.64e12
    ? `${shown}  ${new Date(value * 1000).toISOString()}`
    : shown
}

const print = (
  title: string,
  part: Readonly<Record<string, unknown>> | undefined,
  io: Io,
): void => {
  io.out(title)
  if (!part) io.out('  not readable')
  else
    for (const [name, value] of Object.entries(part)) io.out(`  ${name}: ${describe(name, value)}`)
}

export const token: Command = {
  name: 'token',
  summary: 'say what a token holds and what a check would answer',
  usage:
    'postern token inspect [--action ACTION --resource RESOURCE] [--json] [--config FILE] < TOKEN',
  async run(argv, io) {
    const wrong = (problem: string): number => {
      io.err(`postern token: ${problem}`)
      io.err(`usage: ${token.usage}`)
      return USAGE
    }
    let parsed
    try {
      parsed = parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
    } catch {
      return wrong('an option is unknown, or lacks its value')
    }
    const { config = CONFIG_FILE, action, resource, json = false } = parsed.values
    // A token among the words is not repeated.
    if (parsed.positionals.length !== 1 || parsed.positionals[0] !== 'inspect') {
      return wrong('inspect? (the token is read from stdin, never from the arguments)')
    }
    if ((action === undefined) !== (resource === undefined)) {
      return wrong('--action and --resource go together')
    }
    try {
      const socket = loadConfig(config).listen.control
      const given = await readPiped(io.stdin)
      if ('problem' in given) return wrong(given.problem)
      const text = given.given.trim()
      if (text === '') return wrong('no token came on stdin')
      const [header, payload] = text.split('.')
      const said = { header: readSegment(header), payload: readSegment(payload) }
      const asked = { token: text, ...(action !== undefined && { action, resource }) }
      const told = await askDaemon(socket, 'POST', '/tokens/inspect', undefined, asked)
      const answer =
        told === 'not_running' || 'problem' in told || told.status !== 200
          ? undefined
          : (told.body as { answer?: string; status?: number })
      if (json) io.out(JSON.stringify({ ...said, check: answer ?? null }))
      else {
        print('header', said.header, io)
        print('payload', said.payload, io)
        io.out(answer ? `check: ${answer.status} ${answer.answer}` : 'check: not asked')
      }
      if (answer) return answer.status === 204 ? OK : REFUSED
      const why =
        told === 'not_running'
          ? 'the daemon is not running'
          : 'problem' in told
            ? told.problem
            : `it answered ${told.status}: see its log`
      io.err(`postern token: what a check would answer only the daemon knows: ${why}`)
      return IO_FAILED
    } catch (error) {
      /* c8 ignore next: a fault is main's to tell */
      if (!(error instanceof ConfigError)) throw error
      for (const problem of error.problems) io.err(problem)
      return BAD_CONFIG
    }
  },
}
