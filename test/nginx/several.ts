// The edits that an operator makes for several instances and several hosts: comments taken away in the shipped
// files, and addresses filled in. It must never write a directive of its own.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Nginx, NginxOptions } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'

const WORKERS = 2 // of the nginx that tests start

type Edits = NonNullable<NginxOptions['local']>

/** postern-local.conf for instances on these sockets, the first of which stands there already. */
export const listInstances = (sockets: readonly string[]): Edits =>
  sockets
    .slice(1)
    .map((socket, at) => [
      `# server unix:/run/postern/${at + 1}.http.sock`,
      `server unix:${socket}`,
    ])

/** nginx's own pid: its file is there, and empty, before it is written. */
const masterOf = async ({ folder }: Nginx): Promise<number> => {
  const read = (): string => readFileSync(join(folder, 'nginx.pid'), 'utf8').trim()
  await until('nginx has written its pid', () => read() !== '')
  return Number(read())
}

export const workersOf = async (nginx: Nginx): Promise<number[]> => {
  const pid = await masterOf(nginx)
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return children === '' ? [] : children.split(' ').map(Number)
}

/** A reload after which no worker of before takes a request. */
export const reloadWhole = async (nginx: Nginx): Promise<void> => {
  // Told before it has workers, nginx reloads at the next signal only.
  await until('it has workers', async () => (await workersOf(nginx)).length === WORKERS)
  const before = await workersOf(nginx)
  nginx.reload()
  await until('the workers are new', async () => {
    const now = await workersOf(nginx)
    return now.length === WORKERS && !before.some((pid) => now.includes(pid))
  })
}

/** Ends it as a host ends. */
export const endNginx = async (nginx: Nginx): Promise<void> => {
  process.kill(await masterOf(nginx), 'SIGTERM')
}

/** Writes, beside the shipped files, to whom this host passes on. */
export const tellOthers = async (nginx: Nginx): Promise<void> => {
  const lines = 'mirror /_postern/pass-on/postern_host_b;\n'
  writeFileSync(join(nginx.folder, 'postern', 'publish-others.conf'), lines)
  await reloadWhole(nginx)
}

/** For a host that is reached on this port by the others, and that passes on to the one on that port. */
export const passOn = (
  here: number,
  there: number,
  allowed = '127.0.0.1',
): { local: Edits; site: Edits } => ({
  local: [
    [/^# (?=upstream postern_host_b|server \{\n# {5}listen 192)/gm, ''],
    [
      /^# (?= {4}(?:server 192|keepalive 8|listen 192|allow 192|deny all|include .*passed-on))/gm,
      '',
    ],
    [/(?<=(?:keepalive 8|passed-on\.conf);\n)# (?=\})/g, ''],
    ['server 192.0.2.12:9480', `server 127.0.0.1:${there}`],
    ['listen 192.0.2.11:9480', `listen 127.0.0.1:${here}`],
    ['allow 192.0.2.12', `allow ${allowed}`],
  ],
  site: [[/# (?=include postern\/postern-pass-on\.conf)/, '']],
})
