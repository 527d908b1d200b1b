// The writer thread's loop: takes every call that waits, runs them as one transaction, answers them all.

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads'

import { type Call, type Engine, openEngine, type Outcome } from './engine.ts'
import type { StoreError } from '../store.ts'

export type ToThread = { id: number; call: Call } | { close: true }
export type FromThread =
  | { opened: true }
  | { failed: { code: StoreError['code']; message: string } }
  | { answers: readonly { id: number; outcome: Outcome }[] }

const MAX_BATCH = 256 // bounds what one slow fsync can hold up

/** Opens the file and serves the port until it is told to close. */
export const serveEngine = (port: MessagePort | null, given: { file: string }): void => {
  if (!port) throw new Error('serveEngine runs in a worker thread')
  const post = (message: FromThread): void => {
    port.postMessage(message)
  }
  let engine: Engine
  try {
    engine = openEngine(given.file)
  } catch (error) {
    const { code, message } = error as StoreError // openEngine throws nothing else
    post({ failed: { code, message } })
    return
  }
  port.on('message', (first: ToThread) => {
    const waiting: ToThread[] = [first]
    while (waiting.length < MAX_BATCH) {
      const more: { message: ToThread } | undefined = receiveMessageOnPort(port)
      if (!more) break
      waiting.push(more.message)
    }
    const asked = waiting.filter((message) => 'call' in message)
    if (asked.length > 0) {
      const outcomes = engine.apply(asked.map(({ call }) => call))
      post({
        answers: asked.map(({ id }, index) => ({ id, outcome: outcomes[index] as Outcome })),
      })
    }
    if (asked.length < waiting.length) {
      engine.close()
      port.close()
    }
  })
  post({ opened: true })
}
