// Load on an HTTP server: by wrk where it is installed, else by our own generator. Both stand on the front core.

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import type { Job, Report } from './generator.ts'
import type { Core, Place } from './place.ts'

const GENERATOR = join(import.meta.dirname, 'generator.ts')
const WRK = '/usr/bin/wrk'
let jobs = 0

export const generator = (seconds: number): string =>
  existsSync(WRK) && seconds >= 1 ? 'wrk' : 'our own generator'

/** Our own generator: any target, any method, rotating credentials, a fixed rate. */
export const drive = async (place: Place, job: Job, core: Core = 'front'): Promise<Report> => {
  const file = place.at(`job-${jobs++}.json`)
  writeFileSync(file, JSON.stringify(job))
  const part = place.start('generator', core, [process.execPath, GENERATOR, file])
  if ((await part.ended) !== 0) throw new Error(`the load generator failed: ${part.said()}`)
  return JSON.parse(part.said()) as Report
}

/** GET over TCP with these headers; each bearer token in turn. */
export interface Gets {
  port: number
  path: string
  headers: Readonly<Record<string, string>>
  tokens: readonly string[]
  connections: number
  seconds: number
}

export interface Got {
  requests: number
  seconds: number
  /** Answers of 400 and above. */
  refused: number
  /** Connections lost, and answers that did not come. */
  broken: number
  p50: number
  p99: number
}

const headerLines = (headers: Readonly<Record<string, string>>): string =>
  Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')

/** A request as text, `@@` where the credential stands. */
export const requestText = (
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body = '',
): string => {
  const all = { Host: 'localhost', ...headers }
  const length = method === 'GET' ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`
  return `${method} ${path} HTTP/1.1\r\n${headerLines(all)}${length}\r\n${body}`
}

/** Every request is made before the clock runs: nothing but sending is measured along. */
const script = (tokens: string, { path, headers }: Gets): string => `
local tokens, requests, at = {}, {}, 0
for line in io.lines(${JSON.stringify(tokens)}) do tokens[#tokens + 1] = line end
function init()
  for i, token in ipairs(tokens) do
    local headers = {}
${Object.entries(headers)
  .map(([name, value]) => `    headers[${JSON.stringify(name)}] = ${JSON.stringify(value)}`)
  .join('\n')}
    headers["Authorization"] = "Bearer " .. token
    requests[i] = wrk.format("GET", ${JSON.stringify(path)}, headers)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%d,"seconds":%f,"refused":%d,"broken":%d,"p50":%f,"p99":%f}',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
`

const byWrk = async (place: Place, gets: Gets): Promise<Got> => {
  const { port, tokens, connections, seconds } = gets
  const number = jobs++
  const tokenFile = place.at(`job-${number}.txt`)
  const scriptFile = place.at(`job-${number}.lua`)
  writeFileSync(tokenFile, tokens.join('\n'))
  writeFileSync(scriptFile, script(tokenFile, gets))
  const options = ['-t1', `-c${connections}`, `-d${Math.round(seconds)}s`, '-s', scriptFile]
  const part = place.start('wrk', 'front', [WRK, ...options, `http://127.0.0.1:${port}/`])
  const code = await part.ended
  const found = /\{"requests".*\}/.exec(part.said())?.[0]
  if (code !== 0 || found === undefined) throw new Error(`wrk failed: ${part.said()}`)
  return JSON.parse(found) as Got
}

export const get = async (place: Place, gets: Gets): Promise<Got> => {
  if (generator(gets.seconds) === 'wrk') return byWrk(place, gets)
  const { port, path, headers, tokens, connections, seconds } = gets
  const template = requestText('GET', path, { ...headers, Authorization: 'Bearer @@' })
  const { statuses, ...report } = await drive(place, {
    to: port,
    connections,
    seconds,
    template,
    credentials: [...tokens],
  })
  const refused = Object.entries(statuses)
    .filter(([status]) => Number(status) >= 400)
    .reduce((sum, [, count]) => sum + count, 0)
  return { ...report, refused, broken: statuses['cut'] ?? 0 }
}
