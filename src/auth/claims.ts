// What a claim's value may be. Checked after the signature: a token that is properly signed can still hold a
// name that breaks a header or a log.

const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value.length > 0 && value.length <= max && value.isWellFormed()

// Unicode is welcome in a name, but nothing that breaks a terminal, a log or a header. The two joiners are
// part of how Persian and Indian scripts are written.
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]|(?![\u200c\u200d])\p{Cf}/u

export const isName = (value: unknown, max: number): value is string =>
  isText(value, max) && !UNPRINTABLE.test(value) && value === value.trim()

/** Of a call's party: ASCII digits, and `0202` is not `202`. */
export const isNumber = (value: unknown): value is string =>
  typeof value === 'string' && /^[0-9]{1,256}$/.test(value)

export const isInstant = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) > 0

const ID = /^[A-Za-z0-9_-]{1,64}$/

export const isId = (value: unknown): value is string => typeof value === 'string' && ID.test(value)

export const isAudience = (aud: unknown, ours: string): boolean =>
  aud === ours ||
  (Array.isArray(aud) && aud.every((entry) => typeof entry === 'string') && aud.includes(ours))
