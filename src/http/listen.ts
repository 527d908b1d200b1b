// Where a server listens. A unix socket's file is replaced only where nobody answers on it, and gets its mode and
// group before the first connection: nothing but file permissions guards it.

import { execFileSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, lstatSync, unlinkSync } from 'node:fs'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'

export type ListenAddress =
  | { path: string; mode: number; group: string }
  | { host: string; port: number }
  | { fd: number } // opened by systemd, with the mode and group of its .socket

/** A problem that the operator can solve; the message says how. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
}

const NO_FOLDER = 'the directory does not exist: create it, owned by the user of the service'
const BACKLOG = 4096 // an nginx reload makes every subscriber ask again in the same second

const answers = (path: string): Promise<boolean> => {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const socket = connect(path)
  socket.on('connect', () => {
    socket.destroy()
    resolve(true)
  })
  // Refused: nobody listens there. Anything else, such as a full queue (EAGAIN), may be a busy server.
  socket.on('error', (error: NodeJS.ErrnoException) => {
    resolve(error.code !== 'ECONNREFUSED')
  })
  return promise
}

/** Whether a socket's file is there. Throws a ListenError where none can ever be. */
export const findSocketFile = (path: string): boolean => {
  if (!existsSync(`${dirname(path)}/`)) {
    throw new ListenError(`cannot listen on ${path}: ${NO_FOLDER}`)
  }
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat?.isSocket() === false) {
    throw new ListenError(`${path} is there and is no socket: move it away, or listen elsewhere`)
  }
  return stat !== undefined
}

const removeStale = async (path: string): Promise<void> => {
  if (!findSocketFile(path)) return
  if (await answers(path)) {
    throw new ListenError(
      `${path} is in use: another Postern answers there; stop it, or listen elsewhere`,
    )
  }
  unlinkSync(path)
}

export const groupId = (group: string): number => {
  try {
    const entry = execFileSync('getent', ['group', group], { encoding: 'utf8' })
    return Number(entry.split(':')[2])
  } catch (cause) {
    throw new ListenError(`there is no group ${group}: create it, or set listen.socket_group`, {
      cause,
    })
  }
}

/** A process may give a file only to a group that it belongs to. */
const giveTo = (path: string, group: string): void => {
  const id = groupId(group)
  try {
    chownSync(path, -1, id)
    /* c8 ignore next 6: root may always; the test of it runs as nobody, who may not write coverage down */
  } catch (cause) {
    throw new ListenError(
      `${path} cannot be given to the group ${group}: put the user of the service into it (usermod -a -G ${group} postern)`,
      { cause },
    )
  }
}

const CURES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there: stop it, or listen elsewhere',
  EADDRNOTAVAIL: 'this machine has no such address (yet)',
  EACCES: 'the service may not listen there: give its user the directory, or use a port over 1023',
}

/** Resolves when the server accepts connections. Throws a ListenError. */
export const listen = async (server: Server, address: ListenAddress): Promise<void> => {
  const isPath = 'path' in address
  if (isPath) await removeStale(address.path)
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const failed = (error: NodeJS.ErrnoException): void => {
    const where = isPath
      ? address.path
      : 'fd' in address
        ? `fd ${address.fd}`
        : `${address.host}:${address.port}`
    const cure = CURES[String(error.code)] ?? error.message
    reject(new ListenError(`cannot listen on ${where}: ${cure}`, { cause: error }))
  }
  server.once('error', failed)
  // Nobody may connect between bind() and chmod(): the file is born closed to others.
  const before = isPath ? process.umask(0o177) : undefined
  server.listen(
    isPath ? { path: address.path, backlog: BACKLOG } : { ...address, backlog: BACKLOG },
    resolve,
  )
  if (before !== undefined) process.umask(before)
  await promise
  server.off('error', failed)
  if (!isPath) return
  if (address.group !== '') giveTo(address.path, address.group)
  chmodSync(address.path, address.mode)
}
