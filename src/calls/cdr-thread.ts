// The loop of the thread that reads a CDR: a look whenever it is asked for, and slices of a sweep in between.

import type { MessagePort } from 'node:worker_threads'

import { nextTurn } from '../clock.ts'
import { type CdrNews, createCdrReader } from './cdr-reader.ts'
import type { CdrTerms } from './cdr-table.ts'

export type CdrTask = CdrTerms & { readonly key: string }
/** `look`: seconds that only grow. */
export interface ToCdrThread {
  look: number
}
export type FromCdrThread = CdrNews & { looked?: true }

/** Serves the port until the thread is ended. */
export const serveCdr = (port: MessagePort | null, { key, ...terms }: CdrTask): void => {
  if (!port) throw new Error('serveCdr runs in a worker thread')
  const reader = createCdrReader(terms, key)
  let now = 0
  let isGoingOn = false

  /** Indexes change hands: nobody copies them. */
  const tell = (news: FromCdrThread): void => {
    const indexes = [news.older, news.newest].flatMap((index) =>
      index ? Object.values(index) : [],
    )
    const buffers = indexes.map(({ buffer }: { buffer: ArrayBuffer }) => buffer)
    if (Object.keys(news).length > 0) port.postMessage(news, buffers)
  }
  const goOn = async (): Promise<void> => {
    isGoingOn = true
    while (reader.isSweeping()) {
      await nextTurn()
      tell(reader.goOn(now))
    }
    isGoingOn = false
  }
  port.on('message', ({ look }: ToCdrThread) => {
    now = look
    tell({ ...reader.look(now), looked: true })
    if (!isGoingOn) void goOn()
  })
}
