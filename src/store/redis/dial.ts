// One connection to a Redis, by whatever kind of address. It must never reconnect by itself: who holds the
// connection decides about that.

import type * as Redis from '@redis/client'

import type { Trust } from '../../files/certificates.ts'
import type { RedisAddress } from './address.ts'
import { findPrimary } from './sentinel.ts'
import { StoreError } from '../store.ts'

export type Package = typeof Redis

export const CONNECT_WITHIN = 1 // second: name, TCP, TLS and greeting together

/** What we use of the package's clients, under one name each. */
export interface Wire {
  connect(): Promise<unknown>
  send(args: (string | Buffer)[]): Promise<unknown>
  subscribe(channels: string[], listener: (text: string, channel: string) => void): Promise<unknown>
  destroy(): unknown
}

export type Dial = (onLost: (error: unknown) => void) => Wire

/** A sentinel's "No such master" has no word of its own. */
const namePrimary = (error: unknown): never => {
  const isUnknown = error instanceof Error && error.message.includes('No such master')
  throw isUnknown ? Object.assign(error, { code: 'NOPRIMARY' }) : error
}

const createWire = (
  redis: Package,
  options: Redis.RedisClientOptions,
  onLost: (error: unknown) => void,
): Wire => {
  const client = redis.createClient(options)
  client.on('error', onLost)
  let closed = false
  return {
    async connect() {
      await client.connect()
      // Destroyed while it connects, the package connects all the same (6.3.1), to a server that nobody then lets go
      // of: a daemon that cannot end, and a connection more for each attempt that was too slow.
      if (closed) client.destroy()
    },
    send: (args) => client.sendCommand(args),
    subscribe: (channels, listener) => client.subscribe(channels, listener),
    destroy() {
      closed = true
      client.destroy()
    },
  }
}

export const discard = async (wire: Wire): Promise<void> => {
  // Where it was broken already there is nothing left to close.
  await Promise.allSettled([(async () => wire.destroy())()])
}

/**
 * What every connection to one address has in common. None reconnects by itself: it would queue, and would hide how
 * long the server was away.
 */
const clientOptions = (
  { username, password, tls, database }: RedisAddress,
  trust: Trust | undefined,
) => {
  const socket = { reconnectStrategy: false as const, connectTimeout: CONNECT_WITHIN * 1000 }
  const bare = { disableOfflineQueue: true, maintNotifications: 'disabled' as const }
  return {
    socket,
    secure: { ...socket, ...(tls ? { tls: true as const, ...trust } : {}) },
    bare,
    as: {
      ...bare,
      database,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
    },
  }
}

type ClientOptions = ReturnType<typeof clientOptions>
type AddressOf<Kind> = Extract<RedisAddress, { kind: Kind }>

const dialSentinels =
  (redis: Package, address: AddressOf<'sentinel'>, { as, bare, secure }: ClientOptions): Dial =>
  (onLost) => {
    const open = new Set<Wire>()
    let primary!: Wire // nothing is sent before it is connected
    let closed = false
    const dialed = (options: Redis.RedisClientOptions, lost: typeof onLost): Wire => {
      if (closed) throw new StoreError('unavailable', `${address.label}: closed while connecting`)
      const wire = createWire(redis, options, lost)
      open.add(wire)
      return wire
    }
    const hangUp = async (): Promise<void> => {
      const wires = [...open]
      open.clear()
      await Promise.all(wires.map(discard))
    }
    return {
      async connect() {
        const node = await findPrimary(address.nodes, async (sentinel) => {
          // The credentials of the url are the servers' own.
          const socket = { ...secure, ...sentinel }
          const wire = dialed({ ...bare, socket }, () => undefined)
          await wire.connect()
          return wire.send(['SENTINEL', 'MASTER', address.primary]).catch(namePrimary)
        })
        await hangUp()
        primary = dialed({ ...as, socket: { ...secure, ...node } }, onLost)
        await primary.connect()
      },
      send: (args) => primary.send(args),
      subscribe: (channels, listener) => primary.subscribe(channels, listener),
      destroy() {
        closed = true
        return hangUp()
      },
    }
  }

export const createDial = (
  redis: Package,
  address: RedisAddress,
  trust: Trust | undefined,
): Dial => {
  const options = clientOptions(address, trust)
  if (address.kind === 'sentinel') return dialSentinels(redis, address, options)
  const socket =
    address.kind === 'socket'
      ? { ...options.socket, path: address.path, tls: false as const }
      : { ...options.secure, ...address.nodes[0] }
  return (onLost) => createWire(redis, { ...options.as, socket }, onLost)
}

/** Not before it is needed: whoever has a store of its own never loads it. */
export const loadPackage = (): Promise<Package> => import('@redis/client')
