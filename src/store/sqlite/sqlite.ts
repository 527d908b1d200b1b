// The store on an embedded SQLite file. A durable commit blocks whoever makes it (55 µs to 8 ms measured),
// so all of them happen in one writer thread; the thread that answers checks only ever waits for a message.

import { Worker } from 'node:worker_threads'

import type { FromThread, ToThread } from './thread.ts'
import { type Store, StoreError } from '../store.ts'
import { makeVerbs } from '../verbs.ts'

const MAX_WAITING = 4096 // at 3,400 commits/s about a second: beyond, callers are told to come back

interface Waiting {
  resolve(value: unknown): void
  reject(error: StoreError): void
}

/**
 * Opens the file, creating it where there is none. Rejects with a StoreError whose message names the cure.
 * `onDeath`: its thread is gone and the store with it, though nobody closed it. Nothing but a restart brings it back.
 * `entry` is what the thread runs; tests put one there that fails.
 */
export const openSqliteStore = async (
  file: string,
  onDeath: (error: StoreError) => void = () => {},
  entry = new URL('./sqlite-worker.ts', import.meta.url),
): Promise<Store> => {
  const worker = new Worker(entry, { workerData: { file }, execArgv: [] })
  const waiting = new Map<number, Waiting>()
  let lastId = 0
  let gone: StoreError | undefined
  let isOpen = false

  const died = (cause?: unknown): StoreError =>
    new StoreError('unavailable', `the store's thread for ${file} died`, { cause })

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
    gone = died(cause)
    opened.reject(gone)
  })
  worker.on('exit', () => {
    gone ??= died()
    opened.reject(gone) // says nothing where it was opened before
    for (const caller of waiting.values()) caller.reject(gone)
    waiting.clear()
    closed.resolve()
    if (isOpen) onDeath(gone)
  })

  const post = (message: ToThread): void => {
    worker.postMessage(message)
  }

  await opened.promise
  isOpen = true
  return {
    ...makeVerbs((verb) => async (...args) => {
      if (gone) throw gone
      if (waiting.size >= MAX_WAITING)
        throw new StoreError('busy', 'the store is overloaded: try again')
      const { promise, resolve, reject } = Promise.withResolvers<unknown>()
      const id = ++lastId
      waiting.set(id, { resolve, reject })
      post({ id, call: { verb, args } })
      return promise
    }),
    async close() {
      isOpen = false
      gone ??= new StoreError('unavailable', `the store ${file} is closed`)
      post({ close: true })
      await closed.promise
    },
  }
}
