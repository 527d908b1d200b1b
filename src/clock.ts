// Time as an argument. Everything that asks "when is it?" is handed a Clock, so no test sleeps.

export interface Clock {
  /** Unix time in whole seconds, as in a JWT: what a token's `exp` is compared with. */
  now(): number
  /** Seconds that only ever grow. Windows and delays use it, so a clock set back reopens nothing. */
  monotonic(): number
}

export const systemClock: Clock = {
  now: () => Math.floor(Date.now() / 1000),
  monotonic: () => performance.now() / 1000,
}
