// The store on an embedded SQLite file. A durable commit blocks whoever makes it (55 µs to 8 ms measured),
// so all of them happen in one writer thread; the thread that answers checks only ever waits for a message.

import { Worker } from 'node:worker_threads'

import type { Call } from './engine.ts'
import type { FromThread, ToThread } from './thread.ts'
import type { VerbName } from './verbs.ts'
import { type Store, StoreError } from '../store.ts'

const MAX_WAITING = 4096 // at 3,400 commits/s about a second: beyond, callers are told to come back

interface Waiting {
  resolve(value: unknown): void
  reject(error: StoreError): void
}

/**
 * Opens the file, creating it where there is none. Rejects with a StoreError whose message names the cure.
 * `entry` is where a bundle keeps the thread's code.
 */
export const openSqliteStore = async (
  file: string,
  entry = new URL('./sqlite-worker.ts', import.meta.url),
): Promise<Store> => {
  const worker = new Worker(entry, { workerData: { file }, execArgv: [] })
  const waiting = new Map<number, Waiting>()
  let lastId = 0
  let gone: StoreError | undefined

  const opened = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<void>()
  worker.on('message', (message: FromThread) => {
    if ('opened' in message) opened.resolve()
    else if ('failed' in message) {
      opened.reject(new StoreError(message.failed.code, message.failed.message))
    } else {
      for (const { id, outcome } of message.answers) {
        const caller = waiting.get(id)
        waiting.delete(id)
        if ('value' in outcome) caller?.resolve(outcome.value)
        else caller?.reject(new StoreError(outcome.error.code, outcome.error.message))
      }
    }
  })
  worker.on('error', (cause) => {
    gone = new StoreError('unavailable', `the store's thread for ${file} died`, { cause })
    opened.reject(gone)
  })
  worker.on('exit', () => {
    gone ??= new StoreError('unavailable', `the store ${file} is closed`)
    opened.reject(gone) // says nothing where it was opened before
    for (const caller of waiting.values()) caller.reject(gone)
    waiting.clear()
    closed.resolve()
  })

  const post = (message: ToThread): void => {
    worker.postMessage(message)
  }

  const ask = async (call: Call): Promise<unknown> => {
    if (gone) throw gone
    if (waiting.size >= MAX_WAITING) throw new StoreError('busy', 'the store has too much to do')
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const id = ++lastId
    waiting.set(id, { resolve, reject })
    post({ id, call })
    return promise
  }

  const verb =
    <Name extends VerbName>(name: Name) =>
    (...args: Parameters<Store[Name]>): ReturnType<Store[Name]> =>
      ask({ verb: name, args }) as ReturnType<Store[Name]>

  await opened.promise
  return {
    identify: verb('identify'),
    openSession: verb('openSession'),
    findByRefresh: verb('findByRefresh'),
    renew: verb('renew'),
    rotate: verb('rotate'),
    endSession: verb('endSession'),
    endSessionsOf: verb('endSessionsOf'),
    listEnded: verb('listEnded'),
    listSessions: verb('listSessions'),
    countSessions: verb('countSessions'),
    listCredentials: verb('listCredentials'),
    epoch: verb('epoch'),
    moveEpoch: verb('moveEpoch'),
    useTicket: verb('useTicket'),
    openSubscription: verb('openSubscription'),
    closeSubscriptions: verb('closeSubscriptions'),
    listSubscriptions: verb('listSubscriptions'),
    prune: verb('prune'),
    ping: verb('ping'),
    async close() {
      post({ close: true })
      await closed.promise
    },
  }
}
