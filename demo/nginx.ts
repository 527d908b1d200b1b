// The shipped nginx files as they stand, laid out in a folder that stands for /etc/nginx. Only what
// postern-local.conf and the site say about a machine is replaced; a file that no longer says it is an error.

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const SHIPPED = join(import.meta.dirname, '..', 'nginx')
const BINARY = ['/usr/sbin/nginx', '/usr/local/sbin/nginx', '/usr/bin/nginx'].find(existsSync)
const NCHAN = [
  '/usr/lib/nginx/modules/ngx_nchan_module.so',
  '/usr/share/nginx/modules/ngx_nchan_module.so',
].find(existsSync)

/** Why nginx cannot run here, in words that name the cure, or undefined. */
export const nginxObstacle = (): string | undefined =>
  BINARY !== undefined && NCHAN !== undefined
    ? undefined
    : 'nginx with Nchan is not installed: apt-get install nginx libnginx-mod-nchan'

/**
 * Where several workers run, Nchan 1.3.7 (Debian 13) loses one by ending a WebSocket while messages flow: 29 in 200 ends,
 * with one worker none in 2,400 (measured). 1.3.6 lost none.
 */
export const NGINX_WORKERS =
  NCHAN !== undefined && readFileSync(NCHAN, 'latin1').includes('\x001.3.7\x00') ? 1 : 2

const nginxBinary = (): string => {
  if (BINARY === undefined) throw new Error(nginxObstacle())
  return BINARY
}

export interface NginxLayout {
  /** `address:port` that the site listens on. */
  listen: string
  /** The daemon's unix socket. */
  postern: string
  /** The folder of recordings. */
  recordings?: string
  /** Asterisk's address, `host:port` or `unix:/path`. */
  asterisk?: string
  /** The API behind `/pbxcore/api/v3/`, `host:port` or `unix:/path`. */
  pbx?: string
  /** The unix socket that nginx makes for ending subscriptions; by itself `kickSocketOf(folder)`. */
  kick?: string
  /** The application behind `/app/`, `host:port` or `unix:/path`. */
  app?: string
  /** Origins in postern-local.conf whose pages may call us. */
  origins?: readonly string[]
  /** Last changes to the site, as an operator would make them. Each must change something. */
  site?: readonly (readonly [from: string | RegExp, to: string])[]
  /** Last changes to postern-local.conf. */
  local?: readonly (readonly [from: string | RegExp, to: string])[]
  /** The folder of the files; by itself those of today. */
  shipped?: string
  /** Lines for http {}, such as another site's. */
  http?: string
  /** Whom the workers run as, where root starts nginx. */
  user?: string
  /** By itself as many as end streams without a death. */
  workers?: number
}

const replace = (text: string, from: string | RegExp, to: string): string => {
  const after = text.replace(from, () => to)
  if (after === text) throw new Error(`nothing to replace for ${String(from)}: look at nginx/`)
  return after
}

const mainConfig = (
  folder: string,
  { user, workers = NGINX_WORKERS, http = '' }: NginxLayout,
): string => `
load_module ${String(NCHAN)};
${user === undefined ? '' : `user ${user};`}
daemon off;
worker_processes ${workers};
worker_shutdown_timeout 1s;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events {
    worker_connections 2048;
}
http {
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log ${folder}/other.access.log;
    gzip on;
    client_body_temp_path ${folder}/temp/body;
    proxy_temp_path ${folder}/temp/proxy;
    fastcgi_temp_path ${folder}/temp/fastcgi;
    uwsgi_temp_path ${folder}/temp/uwsgi;
    scgi_temp_path ${folder}/temp/scgi;
    nchan_shared_memory_size 16M;
    include sites-enabled/*.conf;
${http}
}
`

/** Where nginx lets the daemon end subscriptions, unless the layout says otherwise. */
export const kickSocketOf = (folder: string): string => join(folder, 'kick.sock')

const localConfig = (shipped: string, folder: string, layout: NginxLayout): string => {
  const { postern, kick = kickSocketOf(folder), asterisk, pbx, recordings, origins } = layout
  const { local = [] } = layout
  let text = replace(shipped, 'unix:/run/postern/http.sock', `unix:${postern}`)
  text = replace(text, 'unix:/run/postern-nginx/kick.sock', `unix:${kick}`)
  if (pbx !== undefined) text = replace(text, '127.0.0.1:8081', pbx)
  if (asterisk !== undefined) text = replace(text, '127.0.0.1:8088', asterisk)
  if (recordings !== undefined) text = replace(text, '/var/spool/asterisk/monitor', recordings)
  if (origins !== undefined) {
    const lines = origins.map((origin) => `    ${origin} $http_origin;\n`).join('')
    text = replace(text, /^ *# https:\/\/phone\.example\.com.*\n/m, lines)
  }
  for (const [from, to] of local) text = replace(text, from, to)
  return text
}

const siteConfig = (shipped: string, layout: NginxLayout): string => {
  const { app, listen, site = [] } = layout
  let text = shipped
  for (const [from, to] of site) text = replace(text, from, to)
  text = replace(text, /^ {4}listen 80;$/m, `    listen ${listen};`)
  if (app === undefined) return text
  const target = app.startsWith('unix:') ? `${app}:` : app
  return replace(text, /http:\/\/127\.0\.0\.1:8080/g, `http://${target}`)
}

/** Fills an empty folder; logs and the pid file come to stand in it too. */
export const layOutNginx = (folder: string, layout: NginxLayout): void => {
  for (const name of ['postern', 'sites-enabled', 'temp']) mkdirSync(join(folder, name))
  const { shipped = SHIPPED } = layout
  for (const name of readdirSync(shipped)) {
    const text = readFileSync(join(shipped, name), 'utf8').replaceAll(
      '/var/log/nginx/',
      `${folder}/`,
    )
    if (name === 'site.example.conf') {
      writeFileSync(join(folder, 'sites-enabled', 'postern.conf'), siteConfig(text, layout))
    } else {
      const local = name === 'postern-local.conf'
      writeFileSync(join(folder, 'postern', name), local ? localConfig(text, folder, layout) : text)
    }
  }
  writeFileSync(join(folder, 'nginx.conf'), mainConfig(folder, layout))
}

// Whoever started it may be killed before it can stop anything: the kernel ends nginx then.
export const DIES_WITH_US = ['/usr/bin/setpriv', '--pdeathsig', 'TERM', '--']

/** The program and its arguments, in the foreground, on a folder laid out as above. */
export const nginxCommand = (folder: string): string[] => [
  ...DIES_WITH_US,
  nginxBinary(),
  '-p',
  folder,
  '-c',
  join(folder, 'nginx.conf'),
  '-e',
  join(folder, 'error.log'),
]
