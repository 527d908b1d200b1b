// How the kernel ends a live stream: the cutter, a process beside us that alone may destroy sockets, is told which. It must
// never be told one by its addresses alone: a connection that is gone may be a stranger's by now, so each order has the
// cookie that was found while the stream was let in.

import { connect, type Socket } from 'node:net'

import type { Time } from '../clock.ts'
import type { Ending, StreamEnder } from './stream-ender.ts'
import type { Subscription } from './subscription.ts'

/** `queued`: bytes that the kernel has still to send. */
export type Look = { cookie: string; queued: number } | { refused: string } | 'gone'

type Cuttable = Pick<Subscription, 'connection' | 'cookie'>

export interface Cutter extends StreamEnder {
  end(streams: readonly Cuttable[]): Promise<Ending>[]
  /** What the kernel knows of a connection. Rejects with a CutterError where the cutter does not say. */
  look(connection: string): Promise<Look>
  /** Why it could not be asked at the last try. */
  fault(): CutterError | undefined
  /** Whether its first answer is waited for: systemd may be starting it. */
  isStarting(): boolean
  close(): void
}

const TIMEOUT = 2.5 // seconds: as long as a kick may take
const AGAIN = 1 // second until it is tried again
// Seconds without a question, after which it may go to rest: longer than between two looks at a live stream.
const IDLE = 90
const MOST_TEXT = 4096 // characters without an end of line
const GREETING = /^postern-cut 1 \S+$/
const SHUT: ReadonlySet<unknown> = new Set(['ECONNRESET', 'EPIPE'])

/** The cutter cannot be asked: why, and the cure. */
export class CutterError extends Error {}

const CURES: Readonly<Record<string, string>> = {
  ENOENT: 'is not there: `systemctl enable --now postern-cut.socket`',
  ECONNREFUSED: 'has nobody listening: `systemctl restart postern-cut.socket`',
  EACCES: 'may not be opened: it must have mode 0600 and the owner postern (postern-cut.socket)',
  SILENT: 'gives no answer: `journalctl -u postern-cut`',
  OTHER: 'is answered by something else: it must be the cutter of this version',
}

interface Question {
  readonly text: string
  readonly answer: PromiseWithResolvers<string>
  /** Asked a second time, since the cutter ended as it was asked. */
  isRepeated: boolean
}

export const createCutter = (parts: {
  path: string
  clock: Pick<Time, 'monotonic' | 'deadline' | 'every'>
  /** Once per outage, and once when it is over. */
  onChange(fault: CutterError | undefined): void
  /** It may not cut this one: in one word, why. */
  onRefused(why: string): void
}): Cutter => {
  const { path, clock, onChange, onRefused } = parts
  const asked = new Map<string, Question>()
  let unsent: Question[] = []
  let socket: Socket | undefined
  let isGreeted = false
  let fault: CutterError | undefined
  let retryAt = 0
  let askedAt = 0
  let lastId = 0
  let closed = false
  /** The oldest question, by its id. */
  let doubted: string | undefined
  let cancelDoubt = (): void => {}

  const explain = (code: string, cause?: Error): CutterError => {
    const cure = CURES[code] ?? `gives no answer (${code}): \`journalctl -u postern-cut\``
    return new CutterError(`${path} ${cure}`, { cause })
  }

  const drop = (): Question[] => {
    const left = [...asked.values(), ...unsent]
    asked.clear()
    unsent = []
    socket?.destroy()
    socket = undefined
    isGreeted = false
    cancelDoubt()
    doubted = undefined
    return left
  }

  const fail = (error: CutterError): void => {
    const isNews = fault === undefined && !closed
    fault = error
    retryAt = clock.monotonic() + AGAIN
    for (const { answer } of drop()) answer.reject(error)
    if (isNews) onChange(error)
  }

  /** Its end is no fault where nothing was asked; else whoever takes its place is asked again, once. */
  const lose = (lost: Socket): void => {
    if (socket !== lost) return
    const left = [...asked.values(), ...unsent]
    if (left.length > 0 && (!isGreeted || left.some(({ isRepeated }) => isRepeated))) {
      fail(explain('SILENT'))
      return
    }
    drop()
    if (left.length === 0) return
    for (const question of left) question.isRepeated = true
    unsent = left
    send()
  }

  /** Answers to younger ones are no sign that it will be answered. */
  const doubt = (): void => {
    const [oldest] = asked.keys()
    if (oldest === doubted) return
    doubted = oldest
    cancelDoubt()
    if (oldest !== undefined) cancelDoubt = clock.deadline(TIMEOUT, () => fail(explain('SILENT')))
  }

  const hear = (line: string): void => {
    if (!isGreeted) {
      isGreeted = GREETING.test(line)
      if (!isGreeted) fail(explain('OTHER'))
      else if (fault) onChange((fault = undefined))
      return
    }
    const at = line.indexOf(' ')
    const id = line.slice(0, at)
    asked.get(id)?.answer.resolve(line.slice(at + 1))
    asked.delete(id)
  }

  const open = (): Socket => {
    const opened = connect(path)
    let text = ''
    opened.setEncoding('latin1')
    opened.on('data', (more: string) => {
      const lines = (text + more).split('\n')
      text = String(lines.pop())
      for (const line of lines) if (socket === opened) hear(line)
      if (socket !== opened) return
      if (text.length > MOST_TEXT) fail(explain('OTHER'))
      else doubt()
    })
    opened.on('error', (error: NodeJS.ErrnoException) => {
      if (!SHUT.has(error.code)) fail(explain(String(error.code), error))
    })
    opened.on('close', () => lose(opened))
    return opened
  }

  const send = (): void => {
    if (unsent.length === 0) return
    socket ??= open()
    let lines = ''
    for (const question of unsent) {
      const id = String(++lastId)
      asked.set(id, question)
      lines += `${question.text.replace(' ', ` ${id} `)}\n`
    }
    unsent = []
    socket.write(lines)
    doubt()
  }

  /** All that is asked in one turn goes out at once. */
  const ask = (text: string): Promise<string> => {
    // Whatever came while it is tried again would wait with it.
    if (fault && (socket || closed || (clock.monotonic() < retryAt && unsent.length === 0))) {
      return Promise.reject(fault)
    }
    askedAt = clock.monotonic()
    const answer = Promise.withResolvers<string>()
    if (unsent.push({ text, answer, isRepeated: false }) === 1) queueMicrotask(send)
    return answer.promise
  }

  const look = async (connection: string): Promise<Look> => {
    const said = await ask(`look ${connection}`)
    if (said === 'gone') return said
    const [, cookie, queued, refused] = /^(?:([0-9a-f]+) (\d+)|refused (\w+))$/.exec(said) ?? []
    if (cookie !== undefined) return { cookie, queued: Number(queued) }
    return { refused: refused ?? 'other' }
  }

  const cut = async (stream: Cuttable, isSecond = false): Promise<Ending> => {
    const { connection = '', cookie = '' } = stream
    const said = await ask(`cut ${connection} ${cookie}`)
    if (said === 'cut') return 'ended'
    if (said === 'gone') return 'nobody'
    const why = /^refused (\w+)$/.exec(said)?.[1] ?? 'other'
    if (why !== 'unlooked' || isSecond) {
      onRefused(why)
      return 'refused'
    }
    // It has started anew, and cuts only what it looked up itself.
    const found = await look(connection)
    if (found === 'gone') return 'nobody'
    if ('cookie' in found && found.cookie !== cookie) return 'nobody' // another's by now
    return cut(stream, true)
  }

  const stop = clock.every(IDLE / 3, () => {
    if (asked.size === 0 && clock.monotonic() > askedAt + IDLE) drop()
  })

  return {
    look,
    end: (streams) => streams.map((stream) => cut(stream)),
    fault: () => fault,
    isStarting: () => fault === undefined && !isGreeted,
    close() {
      closed = true
      stop()
      fail(new CutterError(`${path} is closed`))
    },
  }
}
