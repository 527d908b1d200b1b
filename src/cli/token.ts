// `postern token inspect`: what a token says, and what a check would answer. Read from stdin, since an argument
// is seen by every user of the machine; what it prints holds nothing that could be used as a token.

import { decodeObject, type Members } from '../auth/compact.ts'
import { loadConfig } from '../config/load.ts'
import { type Command, verb } from './command.ts'
import { orderDaemon } from './control-client.ts'
import { type Io, IO_FAILED, OK, REFUSED, Stop, WrongUsage } from './io.ts'
import { readPiped } from './prompt.ts'

const INSTANTS = new Set(['exp', 'iat', 'nbf', 'until'])

const describe = (name: string, value: unknown): string => {
  const shown = JSON.stringify(value).replaceAll(
    /[^ -~]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return INSTANTS.has(name) && typeof value === 'number' && Math.abs(value) < 8.64e12
    ? `${shown}  ${new Date(value * 1000).toISOString()}`
    : shown
}

const print = (title: string, part: Members | undefined, io: Io): void => {
  io.out(title)
  if (!part) io.out('  not readable')
  else
    for (const [name, value] of Object.entries(part)) io.out(`  ${name}: ${describe(name, value)}`)
}

/** The token on stdin; it is not repeated in any message. */
const readToken = async (stdin: Io['stdin']): Promise<string> => {
  const given = await readPiped(stdin)
  if ('problem' in given) throw new WrongUsage(given.problem)
  const text = given.given.trim()
  if (text === '') throw new WrongUsage('no token on stdin')
  return text
}

interface CheckAnswer {
  answer: string
  status: number
}

/** What a check would answer; text where nobody could be asked. */
const askCheck = async (
  socket: string,
  asked: Readonly<Record<string, unknown>>,
): Promise<CheckAnswer | string> => {
  const told = await orderDaemon(socket, 'POST', '/tokens/inspect', asked).catch(
    ({ message }: Stop) => message,
  )
  return (told as unknown as CheckAnswer | string | undefined) ?? 'the daemon is not running'
}

export const token: Command = {
  name: 'token',
  summary: 'say what a token holds and what a check would answer',
  notes: ['the token is read from stdin, never from the arguments'],
  verbs: {
    inspect: verb({
      options: { action: '[ACTION]', resource: '[RESOURCE]', json: true, config: '[FILE]' },
      async run({ values: { action, resource, json }, file }, io) {
        if ((action === undefined) !== (resource === undefined)) {
          throw new WrongUsage('--action and --resource go together')
        }
        const { control } = loadConfig(file).listen
        const text = await readToken(io.stdin)
        const [header = '', payload = ''] = text.split('.')
        const said = { header: decodeObject(header), payload: decodeObject(payload) }
        const asked = { token: text, ...(action !== undefined && { action, resource }) }
        const check = await askCheck(control, asked)
        const isAnswer = typeof check !== 'string'
        if (json) io.out(JSON.stringify({ ...said, check: isAnswer ? check : null }))
        else {
          print('header', said.header, io)
          print('payload', said.payload, io)
          io.out(isAnswer ? `check: ${check.status} ${check.answer}` : 'check: not asked')
        }
        if (isAnswer) return check.status === 204 ? OK : REFUSED
        throw new Stop(IO_FAILED, `only the daemon knows what a check would answer: ${check}`)
      },
    }),
  },
}
