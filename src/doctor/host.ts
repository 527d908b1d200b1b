// The machine around Postern: modes, sockets, groups, clock, the Node it runs on. Everything is looked at and
// nothing is changed.

import { spawnSync } from 'node:child_process'
import { statSync, type Stats } from 'node:fs'
import { dirname } from 'node:path'

import { type Finding, ok, problem, warning } from './finding.ts'

const MIN_NODE = 'v24.15' // what `engines` asks for
const OLD_AFTER = 180 // days: Node 24 gets a security release about every two months

const run = (program: string, ...argv: string[]): string | undefined => {
  const { status, stdout } = spawnSync(program, argv, { encoding: 'utf8', timeout: 5000 })
  return status === 0 ? stdout.trim() : undefined
}

export const idsOf = (user: string) => {
  const uid = run('id', '-u', user)
  const groups = run('id', '-G', user)
  return uid === undefined || groups === undefined
    ? undefined
    : { uid: Number(uid), gids: new Set(groups.split(' ').map(Number)) }
}

export type Ids = NonNullable<ReturnType<typeof idsOf>>

const may = ({ uid, gids }: Ids, { mode, uid: owner, gid }: Stats, bit: number): boolean => {
  if (uid === 0) return true
  if (uid === owner) return (mode & (bit << 6)) !== 0
  return (mode & (gids.has(gid) ? bit << 3 : bit)) !== 0
}

/** Whether a user could connect to a socket: write on the file, search on its folder. */
export const checkSocket = (
  rule: string,
  path: string,
  user: string,
  ids: Ids | undefined,
  cures: { absent: string; closed: string },
): Finding => {
  let stat
  try {
    stat = statSync(path, { throwIfNoEntry: false })
  } catch (error) {
    const text = `cannot be looked at (${(error as Error).message})`
    return warning(rule, path, text, 'run doctor as root')
  }
  if (!stat) return problem(rule, path, 'is not there', cures.absent)
  if (!stat.isSocket()) {
    return problem(rule, path, 'is no socket', 'remove it, and start what listens on it')
  }
  if (!ids) {
    const cure = 'is this the user that nginx runs as?'
    return warning(rule, path, `the user ${user} does not exist`, cure)
  }
  return may(ids, stat, 2) && may(ids, statSync(dirname(path)), 1)
    ? ok(rule, path, `${user} can open it`)
    : problem(rule, path, `${user} may not open it`, cures.closed)
}

/** A folder that others can enter lets them at the sockets in it. */
export const checkClosed = (rule: string, folder: string): Finding => {
  const stat = statSync(folder, { throwIfNoEntry: false })
  if (!stat)
    return problem(rule, folder, 'is not there', 'create it: 0750, of root and the group postern')
  return (stat.mode & 0o007) === 0
    ? ok(rule, folder, 'closed to others')
    : problem(rule, folder, 'is open to every user of this machine', `chmod 0750 ${folder}`)
}

export const checkClock = (): Finding => {
  const synced = run('timedatectl', 'show', '-p', 'NTPSynchronized', '--value')
  if (synced === 'yes') return ok('clock', 'timedatectl', 'synchronised')
  const cure = 'install systemd-timesyncd or chrony: tokens live by the clock'
  return warning('clock', 'timedatectl', 'not known to be synchronised', cure)
}

/** `now` in Unix seconds. */
export const checkNode = (version: string, binary: string, now: number): Finding => {
  if (version.localeCompare(MIN_NODE, 'en', { numeric: true }) < 0) {
    return problem('node', binary, `is Node ${version}`, `install Node ${MIN_NODE} or later`)
  }
  const days = Math.floor((now - statSync(binary).mtimeMs / 1000) / 86_400)
  if (days <= OLD_AFTER) return ok('node', binary, `Node ${version}`)
  const cure = 'install the newest package of Postern: it brings Node’s security fixes'
  return warning('node', binary, `Node ${version} was installed ${days} days ago`, cure)
}
