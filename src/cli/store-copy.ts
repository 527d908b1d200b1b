// `postern store copy`: a store moves from its file into Redis, or back. It refuses where a daemon is at work or
// the target holds anything, and must never print a url, which may have a password in it.

import { hostname } from 'node:os'
import { parseArgs } from 'node:util'

import { systemClock } from '../clock.ts'
import { ConfigError } from '../config/config-error.ts'
import { readSecretFile } from '../config/secret-file.ts'
import { nginxName } from '../open-state.ts'
import { findUrlProblem } from '../store/redis-address.ts'
import { isKeyPrefix } from '../store/redis-layout.ts'
import { openRedisSource, openRedisTarget, type RedisSide } from '../store/redis-transfer.ts'
import { openSqliteSource, openSqliteTarget } from '../store/sqlite-transfer.ts'
import { StoreError } from '../store/store.ts'
import {
  type Copied,
  copyStore,
  type Reader,
  type Refusal,
  type Writer,
} from '../store/transfer.ts'
import { BAD_CONFIG, type Io, IO_FAILED, OK, REFUSED, USAGE } from './io.ts'

export const COPY_USAGE = [
  'postern store copy --from STORE --to STORE [--prefix PREFIX] [--password-file FILE] [--ca-file FILE]',
  '                          [--nginx NAME]            (every daemon must be stopped)',
  'STORE is a file such as /var/lib/postern/store.db, or a redis://, rediss://, unix://, redis+sentinel:// or',
  'redis+cluster:// url, one of each. Put the password into a file: other users see the command line.',
  'NAME is the nginx whose live streams go along: subscriptions.nginx of the config, or the name of this host.',
].join('\n')

const options = {
  from: { type: 'string' },
  to: { type: 'string' },
  prefix: { type: 'string' },
  'password-file': { type: 'string' },
  'ca-file': { type: 'string' },
  nginx: { type: 'string' },
} as const

const many = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

const summary = (copied: Copied): string => {
  const { live, ended, expired, users, tickets, subscriptions } = copied
  const sessions = `${many(live, 'live session')}, ${ended} ended, ${expired} expired`
  const others = `${many(users, 'user')}, ${many(tickets, 'used ticket')}, ${many(subscriptions, 'live stream')}`
  return `${sessions}, ${others}`
}

interface Asked {
  from: string
  to: string
  prefix: string
  passwordFile: string
  caFile: string | undefined
  nginx: string
}

const isFile = (store: string): boolean => store.startsWith('/')

/** What is wrong with the words, if anything. */
const findMistake = ({ from, to, prefix }: Asked): string | undefined => {
  if (from === '' || to === '') return '--from and --to are needed'
  for (const store of [from, to]) {
    const problem = isFile(store) ? undefined : findUrlProblem(store)
    if (problem !== undefined) return `neither a file that begins with / nor a url: ${problem}`
  }
  if (isFile(from) && isFile(to)) return 'one file becomes another by backup and restore'
  if (!isFile(from) && !isFile(to)) return 'one Redis becomes another by its own replication'
  return isKeyPrefix(prefix) ? undefined : '--prefix may hold a-z 0-9 : . _ - only'
}

const openBoth = async (
  { from, to }: Asked,
  side: RedisSide,
): Promise<{ source: Reader; target: Writer } | Refusal> => {
  const source = isFile(from) ? openSqliteSource(from) : await openRedisSource(side)
  if ('refused' in source) return source
  try {
    const target = isFile(to) ? openSqliteTarget(to) : await openRedisTarget(side)
    if ('refused' in target) source.close()
    return 'refused' in target ? target : { source, target }
  } catch (error) {
    source.close()
    throw error
  }
}

const copy = async (asked: Asked, io: Io, host: string): Promise<number> => {
  const { from, to, prefix, passwordFile, caFile, nginx } = asked
  process.umask(0o077) // names, addresses and hashes of tokens stand in it
  const now = systemClock.now()
  const both = await openBoth(asked, {
    url: isFile(from) ? to : from,
    password: readSecretFile(passwordFile, '--password-file'),
    ca: caFile,
    prefix,
    nginx: nginxName(nginx, host),
    now,
  })
  if ('refused' in both) {
    io.err(`postern store: ${both.refused}`)
    return REFUSED
  }
  const { source, target } = both
  try {
    const copied = await copyStore(source, target, now)
    if ('refused' in copied) {
      io.err(`postern store: ${copied.refused}`)
      return REFUSED
    }
    io.out(
      `${target.label}: whole; ${summary(copied)} copied. The keys are not in it: copy keys.json too`,
    )
    for (const warning of target.warnings) io.err(`postern store: ${warning}`)
    return OK
  } finally {
    target.close()
    source.close()
  }
}

/** `argv` without the words `store copy`; `host`: what this one is called. */
export const runCopy = async (
  argv: readonly string[],
  io: Io,
  host: string = hostname(),
): Promise<number> => {
  const wrong = (problem: string): number => {
    io.err(`postern store: ${problem}`)
    io.err(`usage: ${COPY_USAGE}`)
    return USAGE
  }
  let values
  try {
    values = parseArgs({ args: [...argv], options }).values
  } catch {
    return wrong('an option is unknown, or lacks its value')
  }
  const { from = '', to = '', prefix = 'postern:', nginx = '' } = values
  const passwordFile = values['password-file'] ?? ''
  // A script's empty variable must not become "no password".
  if (values['password-file'] === '') return wrong('--password-file names no file')
  const asked = { from, to, prefix, passwordFile, caFile: values['ca-file'], nginx }
  const mistake = findMistake(asked)
  if (mistake !== undefined) return wrong(mistake)
  try {
    return await copy(asked, io, host)
  } catch (error) {
    if (error instanceof ConfigError) {
      for (const problem of error.problems) io.err(problem)
      return BAD_CONFIG
    }
    /* c8 ignore next: a fault is main's to tell */
    if (!(error instanceof StoreError)) throw error
    io.err(`postern store: ${error.message}`)
    return IO_FAILED
  }
}
