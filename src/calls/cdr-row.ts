// One row of a CDR: the recording that it names, and who surely took part in that call.

/** What is asked of a row, and MikoPBX's column for it. */
export const CDR_COLUMNS = {
  file: 'recordingfile',
  seconds: 'billsec',
  source: 'src_num',
  source_channel: 'src_chan',
  source_account: 'from_account',
  destination: 'dst_num',
  destination_channel: 'dst_chan',
  destination_account: 'to_account',
  app: 'is_app',
} as const

export type CdrField = keyof typeof CDR_COLUMNS

/** Text as it stands there. Null: there is none in this row; undefined: the table has no such column. */
export type CdrRow = Readonly<Record<CdrField, string | null | undefined>>

export interface CallRecord {
  /** Below the folder of recordings. */
  readonly path: string
  readonly parties: readonly string[]
}

const NUMBER = /^[0-9]{1,15}$/
const DURATION = /^[0-9]+(?:\.[0-9]+)?$/
/** As the channel drivers write them. Local/… is whatever was dialled there: who answered has a row of their own. */
const CHANNEL = /^(?:(?:PJSIP|SIP)\/(.+)-[0-9a-f]{8}|IAX2\/(.+)-[0-9]{1,5})$/i
const SCHEME = /^[a-z][a-z0-9+.-]*:/i
/** A name that is not UTF-8 is another one once it is read; control characters are in no name that nginx was asked for. */
const UNREADABLE = /[\u0000-\u001F\u007F\uFFFD]/

/** MikoPBX has a second account for each extension's browser. */
const isOf = (account: string, number: string): boolean =>
  account === number || account === `${number}-WS`

type Text = string | null | undefined

/**
 * A number is what a caller shows or what was dialled: anybody can show 201. It counts where the account agrees that the
 * call came from or went to; a channel says that better than a column of accounts.
 */
const isSure = (number: string, channel: Text, account: Text): boolean => {
  if (channel === undefined && account === undefined) return true
  if (typeof channel === 'string' && channel !== '') {
    const [, sip, iax] = CHANNEL.exec(channel) ?? []
    return isOf(sip ?? iax ?? '', number)
  }
  return isOf(account ?? '', number)
}

const findParties = (row: CdrRow): string[] => {
  const { seconds, app } = row
  // Who only rang heard nothing. Of a queue's or a conference's own row, others may be heard after its caller left.
  if (typeof seconds !== 'string' || !DURATION.test(seconds) || Number(seconds) === 0) return []
  if (app !== null && app !== undefined && app !== '' && app !== '0') return []
  const sides = [
    [row.source, row.source_channel, row.source_account],
    [row.destination, row.destination_channel, row.destination_account],
  ] as const
  const sure = sides.flatMap(([number, channel, account]) =>
    typeof number === 'string' && NUMBER.test(number) && isSure(number, channel, account)
      ? [number]
      : [],
  )
  return [...new Set(sure)]
}

/** Empty segments, `.` and `..`. */
const ODD = /(?:^|\/)\.{0,2}(?:\/|$)/

/** `prefixes`: where the PBX has the folder of recordings. */
const findPath = (file: Text, prefixes: readonly string[]): string | undefined => {
  if (typeof file !== 'string' || UNREADABLE.test(file) || !file.isWellFormed()) return undefined
  if (file.trim() === '' || file === '-' || file.endsWith('/') || SCHEME.test(file))
    return undefined
  let below = file
  if (file.startsWith('/')) {
    let longest = ''
    for (const prefix of prefixes) {
      if (prefix.length > longest.length && file.startsWith(`${prefix}/`)) longest = prefix
    }
    if (longest === '') return undefined
    below = file.slice(longest.length + 1)
  }
  if (!ODD.test(below)) return below
  const names = below.split('/').filter((name) => name !== '' && name !== '.')
  return names.length === 0 || names.includes('..') ? undefined : names.join('/')
}

/** Undefined: the row names no recording in the folder. */
export const readCdrRow = (row: CdrRow, prefixes: readonly string[]): CallRecord | undefined => {
  const path = findPath(row.file, prefixes)
  return path === undefined ? undefined : { path, parties: findParties(row) }
}
