// Real applications behind nginx that are no http servers: PHP, a WSGI application in uWSGI, a gRPC service. Each
// answers with what reached it of its client's headers, under one spelling. They must leave nothing behind.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http2'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

import { needs } from '../fixtures/needs.ts'
import { until } from '../fixtures/postern.ts'

const PHP = '/usr/bin/php-cgi'
const UWSGI = '/usr/bin/uwsgi-core'

export const PHP_NEEDS = needs(existsSync(PHP), 'PHP is not installed: apt-get install php-cgi')
export const UWSGI_NEEDS = needs(
  existsSync(UWSGI) && existsSync('/usr/lib/uwsgi/plugins/python3_plugin.so'),
  'uWSGI is not installed: apt-get install uwsgi-core uwsgi-plugin-python3',
)

/** Header names as clients write them, in lower case → what the application was told. */
export type Told = Record<string, string>

/** CGI's spelling of a header, and of a few names that are none, as a client would write it. */
export const fromCgi = (environment: Readonly<Record<string, unknown>>): Told =>
  Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [
      name
        .replace(/^HTTP_/, '')
        .replaceAll('_', '-')
        .toLowerCase(),
      String(value),
    ]),
  )

export const makeFolder = (t: Test): string => {
  // Not in t.testdir(): a unix socket's path ends at 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'postern-app-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

const accepts = async (path: string): Promise<boolean> => {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

const start = async (t: Test, socket: string, command: readonly string[]): Promise<void> => {
  // Whoever runs the tests may be killed before it can stop anything: the kernel ends it then.
  const child = spawn('/usr/bin/setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let printed = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (printed += text))
  t.teardown(async () => {
    if (child.exitCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  await until(`${command[0]} listens`, () => {
    if (child.exitCode !== null) throw new Error(`${command[0]} did not start:\n${printed}`)
    return accepts(socket)
  })
}

/** FastCGI: its socket, and the script to name. */
export const startPhp = async (t: Test): Promise<{ socket: string; script: string }> => {
  const folder = makeFolder(t)
  const socket = join(folder, 'php.sock')
  const script = join(folder, 'index.php')
  writeFileSync(script, '<?php echo json_encode($_SERVER);')
  await start(t, socket, [PHP, '-n', '-b', socket])
  return { socket, script }
}

/** One process that speaks uwsgi and SCGI: a socket for each. */
export const startUwsgi = async (t: Test): Promise<{ uwsgi: string; scgi: string }> => {
  const folder = makeFolder(t)
  const [uwsgi, scgi] = [join(folder, 'uwsgi.sock'), join(folder, 'scgi.sock')]
  const application = join(folder, 'application.py')
  writeFileSync(
    application,
    `import json
def application(environ, start_response):
    start_response("200 OK", [])
    return [json.dumps({k: v for k, v in environ.items() if isinstance(v, str)}).encode()]
`,
  )
  const options = `--plugins python3 --need-app --wsgi-file ${application} --socket ${uwsgi} --scgi-socket ${scgi}`
  await start(t, uwsgi, [UWSGI, ...options.split(' ')])
  return { uwsgi, scgi }
}

/** A gRPC service, `host:port`: its one message is what it was told, as JSON. */
export const startGrpc = async (t: Test): Promise<string> => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      const text = Buffer.from(JSON.stringify(request.headers))
      const frame = Buffer.alloc(5)
      frame.writeUInt32BE(text.length, 1)
      response.writeHead(200, { 'content-type': 'application/grpc' })
      response.addTrailers({ 'grpc-status': '0' })
      response.end(Buffer.concat([frame, text]))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const address = server.address()
  return typeof address === 'object' ? `127.0.0.1:${address?.port}` : ''
}
