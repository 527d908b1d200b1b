// What a claim's value may be. Types and sizes are looked at after the signature: a rightly signed token can
// still hold a name that a header or a log would choke on.

const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value.length > 0 && value.length <= max && value.isWellFormed()

// Unicode is welcome in a name, what a terminal, a log or a header could choke on is not.
// The two joiners are letters of Persian and of Indian scripts.
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/u

export const isName = (value: unknown, max: number): value is string =>
  isText(value, max) && !UNPRINTABLE.test(value) && value === value.trim()

export const isInstant = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) > 0

const ID = /^[A-Za-z0-9_-]{1,64}$/

export const isId = (value: unknown): value is string => typeof value === 'string' && ID.test(value)

export const isAudience = (aud: unknown, ours: string): boolean =>
  aud === ours ||
  (Array.isArray(aud) && aud.every((entry) => typeof entry === 'string') && aud.includes(ours))
