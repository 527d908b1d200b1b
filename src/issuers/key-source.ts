// The keys of one trusted issuer, cached: one request however many wait for it, kept for as long as its source says
// within our bounds, and for longer while it is away. A check waits for them only if a key is missing.

import { type IssuerKeys, type KeySet, parseIssuerKeys } from '../auth/issuer.ts'
import type { Asymmetric } from '../auth/jwk.ts'
import type { Clock } from '../clock.ts'

export type Loaded = { text: string; maxAge?: number | undefined } | { problem: string }

/** Seconds. */
export interface Bounds {
  /** How long a good answer counts: at least, at most, and if it does not say. */
  min: number
  max: number
  unstated: number
  /** How long until the next request after a bad one. */
  retry: number
  /** How much longer a good one counts while no newer one can be had. */
  lastGood: number
}

/** What became of one request. */
export type Outcome = { keys: number; areNew: boolean } | { problem: string }

export const createKeySource = (parts: {
  /** Never rejects. */
  load(): Promise<Loaded>
  algorithms: readonly Asymmetric[]
  clock: Pick<Clock, 'monotonic'>
  bounds: Bounds
  observe(outcome: Outcome): void
}): IssuerKeys => {
  const { load, algorithms, clock, bounds, observe } = parts
  let keys: KeySet | undefined
  let text = ''
  let dueAt = 0
  let earliest = 0
  let goodUntil = 0
  let underWay: Promise<void> | undefined

  const ask = async (): Promise<void> => {
    const loaded = await load()
    const read = await parse(loaded)
    const now = clock.monotonic()
    if ('problem' in read) {
      earliest = now + bounds.retry
      dueAt = earliest
      observe(read)
      return
    }
    const areNew = keys !== read.keys
    keys = read.keys
    text = read.text
    earliest = now + bounds.min
    dueAt = now + Math.min(bounds.max, Math.max(bounds.min, read.maxAge ?? bounds.unstated))
    goodUntil = dueAt + bounds.lastGood
    observe({ keys: keys.size, areNew })
  }

  const parse = async (
    loaded: Loaded,
  ): Promise<{ keys: KeySet; text: string; maxAge: number | undefined } | { problem: string }> => {
    if ('problem' in loaded) return loaded
    const { maxAge } = loaded
    // The same text keeps the same object, and with it what was verified by it and is remembered.
    if (keys && loaded.text === text) return { keys, text, maxAge }
    const found = await parseIssuerKeys(loaded.text, algorithms)
    return 'problem' in found ? found : { keys: found, text: loaded.text, maxAge }
  }

  const askOnce = (): Promise<void> => {
    underWay ??= ask().finally(() => {
      underWay = undefined
    })
    return underWay
  }

  return {
    current() {
      const now = clock.monotonic()
      if (now >= dueAt) void askOnce()
      return now < goodUntil ? keys : undefined
    },
    // A stranger can name any key, and must not decide how often the issuer is asked.
    renew: async () => {
      if (underWay || clock.monotonic() >= earliest) await askOnce()
    },
  }
}
