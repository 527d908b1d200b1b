// A machine key as it is remembered: a hash of it, what it may do, and when it was last shown.

export interface MachineKey {
  /** Also the session id of what it opens. */
  readonly id: string
  /** Two of one name are one key that is being rotated. */
  readonly name: string
  /** Of the key itself, which is kept nowhere. */
  readonly hash: string
  readonly grants: readonly string[]
  /** Networks that it may be shown from, as CIDR; none: from anywhere. */
  readonly from: readonly string[]
  readonly createdAt: number
  /** Unix seconds: from then on it counts no more. A rotation brings it nearer, and nothing puts it off. */
  readonly until: number
  /** 0: it was not. */
  readonly removedAt: number
  /** To the minute; 0: never. */
  readonly usedAt: number
  readonly usedFrom: string
}

/** The text of none: what a store that was told of none has. */
export const NO_MACHINE_KEYS = '[]'
