// Edits the text of the key file: a key is added, retired or removed. It never leaves a set without a signing key,
// nor drops a member that somebody else wrote.

import { type Algorithm, formatKeySet, generateKey } from './keyring.ts'

/** A key as it stands in the file; other members are kept as they are. */
interface Entry {
  readonly kid: string
  readonly alg: string
  readonly created?: number
  readonly retired?: number
}

export type KeyEdit =
  | { text: string; kid: string }
  | { refused: 'unknown_key' | 'last_key' | 'retired_already' }
  /** Tokens signed by it may be alive: until `gone`, or for as long as it signs. */
  | { refused: 'alive'; gone: number | undefined }

/** The text must have passed parseKeyring. */
const readEntries = (text: string): readonly Entry[] =>
  (JSON.parse(text) as { keys: readonly Entry[] }).keys

/** Without the secrets, in Unix seconds. `life`: the longest that an access token lives. */
export const listKeys = (text: string, life: number) => {
  const entries = readEntries(text)
  const signing = entries.find(({ retired }) => retired === undefined)
  return entries.map((entry) => {
    const { kid, alg, created, retired } = entry
    const standing = entry === signing ? 'signing' : 'standby'
    return {
      kid,
      alg,
      state: retired === undefined ? standing : 'retired',
      created,
      retired,
      /** From when on no access token signed by it can be alive. */
      gone: retired === undefined ? undefined : retired + life,
    }
  })
}

export type KeyRow = ReturnType<typeof listKeys>[number]

/** The new key signs from now on, or stands by: hosts that share keys must all have it before any signs with it. */
export const addKey = (text: string, alg: Algorithm, standby: boolean, now: number): KeyEdit => {
  const entries = readEntries(text)
  const key = generateKey(alg, now)
  return {
    text: formatKeySet(standby ? [...entries, key] : [key, ...entries]),
    kid: key.kid,
  }
}

const othersSign = (entries: readonly Entry[], kid: string): boolean =>
  entries.some((entry) => entry.kid !== kid && entry.retired === undefined)

export const retireKey = (text: string, kid: string, now: number): KeyEdit => {
  const entries = readEntries(text)
  const found = entries.find((entry) => entry.kid === kid)
  if (!found) return { refused: 'unknown_key' }
  if (found.retired !== undefined) return { refused: 'retired_already' }
  if (!othersSign(entries, kid)) return { refused: 'last_key' }
  const changed = entries.map((entry) => (entry === found ? { ...entry, retired: now } : entry))
  return { text: formatKeySet(changed), kid }
}

/** `force`: even where tokens signed by it may be alive; they end with it. */
export const removeKey = (
  text: string,
  kid: string,
  { force, life, now }: { force: boolean; life: number; now: number },
): KeyEdit => {
  const row = listKeys(text, life).find((found) => found.kid === kid)
  if (!row) return { refused: 'unknown_key' }
  const entries = readEntries(text)
  if (!othersSign(entries, kid)) return { refused: 'last_key' }
  const { gone } = row
  if (!force && (gone === undefined || gone > now)) return { refused: 'alive', gone }
  return { text: formatKeySet(entries.filter((entry) => entry.kid !== kid)), kid }
}
