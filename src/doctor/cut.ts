// Whether what is open here can really be ended, tried for real: a connection of our own to nginx, over which nothing is
// served, is cut. It must never name a connection that is not ours.

import { connect, type Socket } from 'node:net'

import { type Finding, ok, problem, warning } from './finding.ts'
import type { Directive, Spot } from './nginx-config.ts'
import { followedListens } from './nginx-followed.ts'
import { portOf } from './nginx-spots.ts'

type Look = { cookie: string } | { refused: string } | 'gone'

export interface Cuts {
  look(connection: string): Promise<Look>
  /** What became of each. */
  end(streams: readonly { connection?: string; cookie?: string }[]): readonly Promise<string>[]
  /** In one word why not → what that means, a colon, and the cure. */
  whys: Readonly<Record<string, string>>
  /** Also over once the signal is aborted. */
  wait(seconds: number, signal?: AbortSignal): Promise<void>
}

const TRIES = 10 // the kernel has it before nginx does
const PAUSE = 0.05 // seconds
const LIMIT = 2 // seconds until nginx lets us in, and until a cut is felt

const IPV4: ReadonlySet<string> = new Set(['*', '0.0.0.0'])

const hostOf = ({ args: [at = ''] }: Directive): string =>
  /^\d+$/.test(at) ? '*' : at.replace(/:\d+$/, '')

/** `host port` of each door. */
const doorsOf = (all: readonly Spot[]): Set<string> => {
  const listens = followedListens(all)
  const isIpv4 = (listen: Directive): boolean =>
    IPV4.has(hostOf(listen)) || listen.args.includes('ipv6only=off')
  const onIpv4 = new Set(listens.filter(isIpv4).map(portOf))
  return new Set(
    listens.map((listen) => {
      const [host, port] = [hostOf(listen), portOf(listen)]
      const isEverywhere = IPV4.has(host) || host === '[::]'
      // Of both families one will do.
      const door = onIpv4.has(port) ? '127.0.0.1' : '::1'
      return `${isEverywhere ? door : host.replaceAll(/[[\]]/g, '')} ${port}`
    }),
  )
}

const said = (why: string, { whys }: Pick<Cuts, 'whys'>): readonly [text: string, cure: string] => {
  const text = whys[why] ?? String(whys['other'])
  const at = text.indexOf(': ')
  return [text.slice(0, at), text.slice(at + 2)]
}

const find = async (connection: string, cuts: Cuts): Promise<Look> => {
  let found = await cuts.look(connection)
  for (let left = TRIES; found === 'gone' && left > 0; left--) {
    await cuts.wait(PAUSE)
    found = await cuts.look(connection)
  }
  return found
}

/** Whether the socket says this in time. */
const says = async (
  socket: Socket,
  event: 'connect' | 'close',
  { wait }: Cuts,
): Promise<boolean> => {
  const over = new AbortController()
  const said = new Promise<boolean>((resolve) => {
    socket.once(event, () => resolve(true))
    socket.once('error', () => resolve(event === 'close'))
  })
  const outcome = await Promise.race([said, wait(LIMIT, over.signal).then(() => false)])
  over.abort()
  return outcome
}

const tryOn = async (socket: Socket, where: string, cuts: Cuts): Promise<Finding> => {
  const { localAddress, localPort, remoteAddress, remotePort } = socket
  const connection = `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`
  const found = await find(connection, cuts)
  if (found === 'gone') return problem('cut', where, ...said('gone', cuts))
  if ('refused' in found) return problem('cut', where, ...said(found.refused, cuts))
  const felt = says(socket, 'close', cuts)
  const [outcome] = await Promise.all(cuts.end([{ connection, cookie: found.cookie }]))
  return outcome === 'ended' && (await felt)
    ? ok('cut', where, 'a connection of ours was cut: what is open here ends with its session')
    : problem('cut', where, ...said('other', cuts))
}

const tryDoor = async (door: string, cuts: Cuts): Promise<Finding> => {
  const [host = '', port] = door.split(' ')
  const where = `${host}:${port}`
  const socket = connect({ host, port: Number(port) })
  const cure = 'start nginx, and run doctor where it listens'
  try {
    return (await says(socket, 'connect', cuts))
      ? await tryOn(socket, where, cuts)
      : warning('cut', where, 'nobody answers there, so no cut was tried', cure)
  } finally {
    socket.destroy()
  }
}

/** A finding for each address where clients come that have something followed; one where the cutter says nothing. */
export const tryCuts = async (
  all: readonly Spot[],
  socket: string,
  cuts: Cuts,
): Promise<Finding[]> => {
  const findings: Finding[] = []
  try {
    for (const door of doorsOf(all)) findings.push(await tryDoor(door, cuts))
  } catch (error) {
    findings.push(problem('cut', socket, 'nothing can be cut', (error as Error).message))
  }
  return findings
}

/** What the daemon has counted since it started. */
export const judgeUncuttable = (
  counts: Readonly<Record<string, number>>,
  where: string,
  cuts: Pick<Cuts, 'whys'>,
): Finding[] =>
  Object.entries(counts).map(([why, count]) => {
    const [text, cure] = said(why, cuts)
    return warning('uncuttable', where, `${count} streams could not be cut: ${text}`, cure)
  })

/** As the daemon has seen since it started. */
export const judgeFronts = (fronts: readonly string[]): Finding[] =>
  fronts.map((peer) =>
    warning(
      'front',
      peer,
      'several users came over one connection from there, a proxy’s or a browser’s with two logins: who is cut takes the others along',
      'of a proxy: `set_real_ip_from` and `real_ip_header` in nginx, and let it speak HTTP/1.1 to nginx, with `keepalive_timeout 0;` in what is followed',
    ),
  )
