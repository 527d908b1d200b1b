// nginx with the shipped files as they stand and one worker on the front core, beside what they are compared with.
// Only what postern-local.conf and the site say about a machine is replaced, and the access log, which all share.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'

import { layOutNginx, nginxCommand, nginxObstacle } from '../demo/nginx.ts'
import { statusOf } from './ask.ts'
import { freePort } from './free-port.ts'
import { type Part, type Place, until } from './place.ts'
import { childrenOf } from './processor.ts'
import { Skip } from './scenario.ts'

export interface Site {
  readonly port: number
  readonly kick: string
  readonly worker: number
  /** Master, worker and whatever else nginx runs. */
  readonly pids: readonly number[]
  readonly part: Part
}

const FILE_BYTES = 4 * 1024 * 1024
export const RECORDING = 'a.wav'

const LOCATION_OF_ALL = /^ {4}location \/ \{$/m

/** The same file behind another way of asking. */
const otherLocations = (folder: string, compared: Readonly<Record<string, Compared>>): string => {
  const file = (name: string): string => `    location /${name}/ {
        ${name === 'static' ? '' : `auth_request /_${name};`}
        add_header Cache-Control "private, no-store" always;
        alias ${folder}/;
    }
`
  const check = (name: string, { lean, path = '/check' }: Compared): string =>
    `    location = /_${name} {
        internal;
        ${
          lean
            ? `include postern/postern-daemon.conf;
        proxy_set_header X-Auth-Action read;
        proxy_set_header X-Auth-Accept "header ticket cookie";
        proxy_set_header User-Agent $http_user_agent;
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Original-URI $request_uri;`
            : 'proxy_http_version 1.1;\n        proxy_set_header Connection "";'
        }
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_pass http://${name}${path};
    }
`
  const names = Object.entries(compared)
  return [
    file('static'),
    ...names.flatMap(([name, one]) => [file(name), check(name, one)]),
    '    location / {',
  ].join('')
}

export interface Compared {
  /** `unix:…` or `host:port`. */
  address: string
  /** The same few headers that the shipped files send; else all of the client's. */
  lean?: boolean
  path?: string
}

export interface SiteOptions {
  /** The daemons' sockets; nginx takes them in turn. */
  postern: readonly string[]
  compared?: Readonly<Record<string, Compared>>
  /** Bytes of Nchan's shared memory, as nginx writes them. */
  shared?: string
  name?: string
}

export const openSite = async (
  place: Place,
  { postern, compared = {}, shared = '32M', name = 'nginx' }: SiteOptions,
): Promise<Site> => {
  const obstacle = nginxObstacle()
  if (obstacle !== undefined) throw new Skip(obstacle)
  const port = await freePort()
  const recordings = place.folder('recordings')
  writeFileSync(`${recordings}/${RECORDING}`, Buffer.alloc(FILE_BYTES, 7))
  const folder = place.folder(name)
  const kick = name === 'nginx' ? place.at('kick.sock') : place.at(`${name}.sock`)
  const [first = '', ...others] = postern
  const upstreams = Object.entries(compared).map(
    ([upstream, { address }]) =>
      `    upstream ${upstream} {\n        server ${address} max_fails=0;\n        keepalive 64;\n    }\n`,
  )
  layOutNginx(folder, {
    listen: `127.0.0.1:${port}`,
    postern: first,
    recordings,
    kick,
    ...(process.getuid?.() === 0 && { user: 'root' }),
    http: upstreams.join(''),
    site: [
      ['    error_log ', '    access_log off;\n    error_log '],
      [LOCATION_OF_ALL, otherLocations(recordings, compared)],
    ],
    local:
      others.length === 0
        ? []
        : [
            [
              `server unix:${first} max_fails=0;`,
              postern.map((socket) => `server unix:${socket} max_fails=0;`).join('\n    '),
            ],
          ],
  })
  const main = readFileSync(`${folder}/nginx.conf`, 'utf8')
  writeFileSync(
    `${folder}/nginx.conf`,
    main
      .replace(/worker_processes \d;/, 'worker_processes 1;\nworker_rlimit_nofile 20000;')
      .replace('worker_connections 2048;', 'worker_connections 19000;')
      .replace(/^( *)nchan_shared_memory_size .*;$/m, `$1nchan_shared_memory_size ${shared};`)
      .replace('gzip on;', 'gzip on;\n    keepalive_requests 100000000;'),
  )
  const part = place.start(name, 'front', nginxCommand(folder))
  await until(
    part,
    async () => existsSync(`${folder}/nginx.pid`) && (await statusOf(port, '/static/')) !== 0,
  )
  const pids = [part.pid, ...childrenOf(part.pid)]
  return { port, kick, worker: pids[1] ?? part.pid, pids, part }
}
