// A Redis of the bench's own, on the back core: in a folder of its own, on a socket, without snapshots.

import { existsSync } from 'node:fs'
import { connect } from 'node:net'

import { type Core, type Part, type Place, until } from './place.ts'
import { Skip } from './scenario.ts'

const BINARIES = ['redis-server', 'valkey-server'].map((name) => `/usr/bin/${name}`)

/** How much of what was acknowledged a crash may take: `no` is memory alone. */
export type Durability = 'always' | 'everysec' | 'no'

export interface Redis {
  readonly part: Part
  readonly pid: number
  readonly url: string
  /** What it answers to a command without arguments that hold spaces. */
  command(...words: string[]): Promise<string>
  /** A number out of INFO. */
  info(field: string): Promise<number>
}

const say = async (socket: string, words: readonly string[]): Promise<string> => {
  const client = connect(socket)
  let text = ''
  client.setEncoding('utf8').on('data', (more: string) => (text += more))
  const closed = Promise.withResolvers<void>()
  client.on('close', closed.resolve).on('error', closed.reject)
  client.write(`${words.join(' ')}\r\nQUIT\r\n`)
  await closed.promise
  return text
}

export const openRedis = async (
  place: Place,
  durability: Durability,
  { name = `redis-${durability}`, core = 'back' }: { name?: string; core?: Core } = {},
): Promise<Redis> => {
  const binary = BINARIES.find(existsSync)
  if (binary === undefined) throw new Skip('no Redis here: apt-get install redis-server')
  const folder = place.folder(name)
  const socket = `${folder}/s`
  const settings = {
    port: '0',
    unixsocket: socket,
    dir: folder,
    save: '""',
    appendonly: durability === 'no' ? 'no' : 'yes',
    ...(durability !== 'no' && { appendfsync: durability }),
  }
  const argv = Object.entries(settings).flatMap(([key, value]) => [
    `--${key}`,
    value === '""' ? '' : value,
  ])
  const part = place.start(name, core, [binary, ...argv])
  const command = (...words: string[]): Promise<string> => say(socket, words)
  await until(part, () =>
    command('PING').then(
      (answer) => answer.startsWith('+PONG'),
      () => false,
    ),
  )
  return {
    part,
    pid: part.pid,
    url: `unix://${socket}`,
    command,
    async info(field) {
      const found = new RegExp(`^${field}:([0-9.]+)`, 'm').exec(await command('INFO', 'all'))?.[1]
      if (found === undefined) throw new Error(`Redis says nothing of ${field}`)
      return Number(found)
    },
  }
}
