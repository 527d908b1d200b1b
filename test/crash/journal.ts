// What clients asked and what they were told, with the time of one monotonic clock: all that the judge may
// know. Tokens are named by a hash, so that a journal can be kept and shown. Nothing here judges.

import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'

/** What the product promises, in seconds. */
export interface Terms {
  /** How long a refresh token that was traded in still gets the same successor. */
  readonly grace: number
  /** How long another host than the one that ended a session may go on to accept its access tokens. */
  readonly bound: number
  /** How long after its client knew no answer an operation may still happen (in a server that was stopped). */
  readonly late: number
}

/**
 * yes: 2xx. no: 401. away: 503. broken: the connection ended without an answer. late: the client lost patience.
 * odd: any other status. What was never sent (nobody listened) is no operation.
 */
export type Answer = 'yes' | 'no' | 'away' | 'broken' | 'late' | 'odd'

interface Asked {
  readonly id: number
  /** The host that was asked. */
  readonly host: string
  /** Seconds: before the request was sent, and after its answer was read. */
  readonly start: number
  readonly end: number
  readonly answer: Answer
  readonly status: number
}

export interface Given {
  readonly sid: string
  readonly refresh: string
  readonly access: string
}

export interface Login extends Asked {
  readonly verb: 'login'
  readonly user: string
  /** Whether the password was the right one. */
  readonly right: boolean
  readonly given?: Given
}

export interface Refresh extends Asked {
  readonly verb: 'refresh'
  /** The session that the presented token was given for. */
  readonly sid: string
  readonly token: string
  readonly given?: Given
}

export interface Logout extends Asked {
  readonly verb: 'logout'
  readonly sid: string
  readonly user: string
  /** Of every session of the user. */
  readonly everywhere: boolean
}

export interface Check extends Asked {
  readonly verb: 'check'
  readonly sid: string
  readonly token: string
  /** Why it was refused. */
  readonly reason?: string
  /** Whom it was allowed for. */
  readonly allowed?: { readonly sid: string; readonly user: string }
}

export type Operation = Login | Refresh | Logout | Check

/** Without what the journal itself puts down. */
export type Entry = Operation extends infer One
  ? One extends Operation
    ? Omit<One, 'id' | 'end'>
    : never
  : never

export interface Journal {
  readonly operations: readonly Operation[]
  /** Seconds since the journal was opened. */
  now(): number
  /** To be called when the answer is there: it puts the end down. */
  write(entry: Entry): void
  /** Resolves with the next acknowledgement of this kind. */
  nextYes(verb: Operation['verb']): Promise<void>
}

export const createJournal = (): Journal => {
  const operations: Operation[] = []
  const waiting: { verb: Operation['verb']; resolve(): void }[] = []
  const openedAt = performance.now()
  const now = (): number => (performance.now() - openedAt) / 1000
  return {
    operations,
    now,
    write(entry) {
      operations.push({ ...entry, id: operations.length, end: now() })
      if (entry.answer !== 'yes') return
      for (const { resolve } of waiting.filter(({ verb }) => verb === entry.verb)) resolve()
    },
    async nextYes(verb) {
      const { promise, resolve } = Promise.withResolvers<void>()
      const one = { verb, resolve }
      waiting.push(one)
      await promise
      waiting.splice(waiting.indexOf(one), 1)
    },
  }
}

/** Names a token in a journal; nobody can use the name. */
export const nameToken = (token: string): string =>
  createHash('sha256').update(token).digest('hex').slice(0, 16)

export interface SavedJournal {
  readonly terms: Terms
  readonly operations: readonly Operation[]
}

/** One operation a line, so that a long one can be searched with grep; before them the terms. */
export const saveJournal = (file: string, { terms, operations }: SavedJournal): void => {
  const lines = [terms, ...operations].map((one) => JSON.stringify(one))
  writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 })
}

export const loadJournal = (file: string): SavedJournal => {
  const [first = '', ...lines] = readFileSync(file, 'utf8').trimEnd().split('\n')
  return {
    terms: JSON.parse(first) as Terms,
    operations: lines.map((line) => JSON.parse(line) as Operation),
  }
}
