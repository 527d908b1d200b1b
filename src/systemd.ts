// What systemd hands to a service and wants to hear from it: sockets that outlive a restart, and sd_notify(3).
// A message must never make it throw: a daemon that cannot report is still a daemon.

import { write } from 'node:fs'

type Environment = Record<string, string | undefined>

const MAX_WAITING = 16 // a minute of pings
const FIRST_FD = 3 // SD_LISTEN_FDS_START: 0 to 2 are stdin, stdout and stderr

/** What was meant for us is not meant for our children (sd_listen_fds(3), unset_environment). */
const take = (env: Environment, name: string): string | undefined => {
  const value = env[name]
  delete env[name]
  return value
}

/**
 * FileDescriptorName= → fd, `notify` of OpenFile= among them. No fd is left out, since clients of a socket
 * that nobody accepts on hang: the second of one name is `name.2`.
 */
export const listenFds = (env: Environment): ReadonlyMap<string, number> => {
  const pid = take(env, 'LISTEN_PID')
  const count = Number(take(env, 'LISTEN_FDS'))
  const names = take(env, 'LISTEN_FDNAMES')?.split(':') ?? []
  const fds = new Map<string, number>()
  // Inherited from a parent that forgot to unset them: our fd 3 may be anything.
  if (pid !== String(process.pid)) return fds
  for (let index = 0; index < count; index++) {
    const name = names[index] ?? 'unknown'
    let free = name
    for (let nth = 2; fds.has(free); nth++) free = `${name}.${nth}`
    fds.set(free, FIRST_FD + index)
  }
  return fds
}

/**
 * Node cannot open a datagram socket in the file system, so somebody else has: systemd 253 and later as the fd
 * `notify` (OpenFile=), notify-exec.pl as NOTIFY_FD. Without NOTIFY_SOCKET nobody listens.
 */
export const createNotifier = (
  env: Environment,
  fds: ReadonlyMap<string, number>,
  onFailure: (error: unknown) => void = () => {},
) => {
  const socket = take(env, 'NOTIFY_SOCKET')
  const inherited = take(env, 'NOTIFY_FD')
  const timeout = Number(take(env, 'WATCHDOG_USEC')) / 1_000_000
  const watched = take(env, 'WATCHDOG_PID') ?? String(process.pid)
  const fd = fds.get('notify') ?? Number(inherited) // none: NaN, which no write takes

  const waiting: string[] = []
  let isWriting = false
  const writeNext = (): void => {
    const message = waiting.shift()
    isWriting = message !== undefined
    if (message === undefined) return
    try {
      write(fd, message, (error) => {
        if (error) onFailure(error)
        writeNext()
      })
    } catch (error) {
      onFailure(error)
      writeNext()
    }
  }
  /** In the background and in order: the socket is a blocking one, and PID 1 may not read for a while. */
  const send = (...lines: readonly string[]): void => {
    if (socket === undefined) return
    if (waiting.length >= MAX_WAITING) {
      // What the next one says anew: a READY=1 that got lost would keep systemd waiting for good.
      const at = waiting.findIndex((message) => /^(?:WATCHDOG|STATUS)=/.test(message))
      waiting.splice(Math.max(at, 0), 1)
    }
    waiting.push(lines.join('\n'))
    if (!isWriting) writeNext()
  }
  // A line break would begin another message.
  const statusLine = (text: string): string => `STATUS=${text.replaceAll(/\s+/g, ' ')}`

  return {
    /** Also ends a `reloading()`. */
    ready(status?: string): void {
      if (status === undefined) send('READY=1')
      else send('READY=1', statusLine(status))
    },
    /** One line, for `systemctl status`. */
    status(text: string): void {
      send(statusLine(text))
    },
    reloading(): void {
      // The time is for Type=notify-reload, which takes an earlier READY for that of another reload.
      send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
    },
    stopping(): void {
      send('STOPPING=1')
    },
    /** How often to `ping()`: twice within the time that systemd allows. Undefined: nobody waits for it. */
    watchdog:
      socket !== undefined && timeout > 0 && watched === String(process.pid)
        ? { intervalSeconds: timeout / 2 }
        : undefined,
    ping(): void {
      send('WATCHDOG=1')
    },
  }
}
