// The daemon as it is run, on the back core, with users of its own; and tokens for it by the thousand, made as it
// makes them, since a thousand logins would take longer than the measurement.

import { createHmac, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { type Cost, DEFAULT_COST, hashPassword } from '../src/passwords/hash.ts'
import { type Answer, ask } from './ask.ts'
import { type Core, type Part, type Place, until } from './place.ts'

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts')
export const BASE = '/pbxcore/api/module-softphone-backend/v1'
export const PBX = '/pbxcore/api/v3'
const PASSWORD = 'correct horse'
const TRIES = 10
export const CHEAP: Cost = { memory: 7168, passes: 1 } // the least that the config allows

export interface Options {
  name?: string
  core?: Core
  users?: number
  cost?: Cost
  workers?: number
  /** More lines of postern.toml, whole sections. */
  settings?: string
  /** Where it listens, if not on a socket. */
  port?: number
  /** What several share: the users, the keys, and the name of the nginx with the streams. */
  state?: string
  kick?: string
}

export interface Postern {
  readonly part: Part
  readonly pid: number
  /** Where it listens: a socket, or a port. */
  readonly http: string | number
  readonly control: string
  readonly state: string
  readonly users: readonly string[]
}

export const userNames = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `u${index}`)

const hashes = new Map<number, string>()

/** One hash for all: to check it costs the same for each. */
const hashFor = (cost: Cost): string => {
  const known = hashes.get(cost.memory) ?? hashPassword(PASSWORD, cost)
  hashes.set(cost.memory, known)
  return known
}

export const openPostern = async (place: Place, options: Options = {}): Promise<Postern> => {
  const { name = 'postern', core = 'back', users = 1000, cost = DEFAULT_COST, port } = options
  const { workers = 1, settings = '', kick = place.at('kick.sock') } = options
  const folder = place.folder(name)
  const { state = join(folder, 'state') } = options
  const at = (file: string): string => join(folder, file)
  const names = userNames(users)
  const hash = hashFor(cost)
  const lines = names.map((user) => `${user}:${hash}:user:\n`).join('')
  writeFileSync(at('users'), lines, { mode: 0o600 })
  writeFileSync(
    at('postern.toml'),
    `[listen]
http = "${port === undefined ? `unix:${at('http.sock')}` : `127.0.0.1:${port}`}"
operator = "unix:${at('operator.sock')}"
control = "${at('control.sock')}"
[state]
directory = "${state}"
[users]
file = "${at('users')}"
[streams]
kick_socket = "${kick}"
per_session = 10000
streams_per_session = 10000
[sessions]
per_user = 0
[throttle]
pair_failures = 1000000
address_failures = 1000000
account_failures = 1000000
[passwords]
memory_kib = ${cost.memory}
passes = ${cost.passes}
workers = ${workers}
[log]
level = "warn"
security = "${at('security.log')}"
[roles.user]
grants = ["read:recordings/**", "subscribe:room-*"]
${settings}
`,
  )
  const argv = [process.execPath, MAIN, 'serve', '--config', at('postern.toml')]
  const part = place.start(name, core, argv)
  await until(part, async () => {
    try {
      return (await ask(at('operator.sock'), '/readyz')).status === 200
    } catch {
      return false
    }
  })
  const http = port ?? at('http.sock')
  return { part, pid: part.pid, http, control: at('control.sock'), state, users: names }
}

export interface Login {
  access: string
  refresh: string
}

/** Whose headers nginx would have set. */
const CLIENT = {
  'Content-Type': 'application/json',
  'X-Real-IP': '192.0.2.1',
  'User-Agent': 'bench',
}

export const loginBody = (user: string): string =>
  JSON.stringify({ username: user, password: PASSWORD })
export const LOGIN_HEADERS = CLIENT

/** As any client should: where the daemon cannot decide now, it is asked again. */
const askPatiently = async (http: string | number, path: string, body: string): Promise<Answer> => {
  for (let tries = 1; ; tries++) {
    const answer = await ask(http, path, { body, headers: CLIENT })
    if (answer.status !== 503 || tries === TRIES) return answer
    await pause(1000)
  }
}

export const login = async ({ http }: Pick<Postern, 'http'>, user: string): Promise<Login> => {
  const answer = await askPatiently(http, `${BASE}/auth/login`, loginBody(user))
  if (answer.status !== 200) throw new Error(`login: ${answer.status} ${answer.body}`)
  const found = JSON.parse(answer.body) as Record<string, string>
  return { access: String(found['access_token']), refresh: String(found['refresh_token']) }
}

/** A login by the other dialect: its refresh tokens rotate. */
export const pbxLogin = async ({ http }: Pick<Postern, 'http'>, user: string): Promise<string> => {
  const body = JSON.stringify({ login: user, password: PASSWORD, rememberMe: true })
  const answer = await askPatiently(http, `${PBX}/auth:login`, body)
  const token = /^refreshToken=([^;]+)/m.exec(answer.cookies.join('\n'))?.[1]
  if (answer.status !== 200 || token === undefined) throw new Error(`login: ${answer.status}`)
  return token
}

const b64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** Makes access tokens like this one, each of a session of its own. */
export const createMint = (
  { state, users }: Pick<Postern, 'state' | 'users'>,
  sample: string,
): ((count: number) => string[]) => {
  const { keys } = JSON.parse(readFileSync(join(state, 'keys.json'), 'utf8')) as {
    keys: { k: string }[]
  }
  const key = Buffer.from(keys[0]?.k ?? '', 'base64url')
  const [header = '', payload = ''] = sample.split('.')
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object
  return (count) =>
    Array.from({ length: count }, (_, index) => {
      const own = {
        username: users[index % users.length],
        sid: randomBytes(16).toString('hex'),
        jti: randomBytes(16).toString('hex'),
      }
      const text = `${header}.${b64({ ...claims, ...own })}`
      return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`
    })
}

/** A token of the right form by a key of nobody's. */
export const spoil = (token: string): string => {
  const [header = '', payload = ''] = token.split('.')
  const signature = createHmac('sha256', 'nobody')
    .update(`${header}.${payload}`)
    .digest('base64url')
  return `${header}.${payload}.${signature}`
}

/** Where nginx asks about a recording, and what it sends along. */
export const CHECK = '/check/recordings/a.wav'

export const CHECK_HEADERS = {
  'X-Real-IP': '192.0.2.1',
  'X-Request-ID': '3f2b8c1e5d7a4f609b8c7d6e5f4a3b2c',
  'X-Forwarded-Proto': 'https',
  'X-Forwarded-Host': 'pbx.example.com',
  'X-Auth-Action': 'read',
  'X-Auth-Accept': 'header ticket cookie',
  'User-Agent':
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36',
  'X-Original-Method': 'GET',
  'X-Original-URI': '/pbxcore/softphone/recordings/a.wav',
}

/** What a browser sends for a piece of a recording: 12 headers. */
export const BROWSER_HEADERS = {
  Host: 'pbx.example.com',
  'User-Agent': CHECK_HEADERS['User-Agent'],
  Accept: '*/*',
  'Accept-Language': 'en-US,en;q=0.9,de;q=0.8',
  'Accept-Encoding': 'identity;q=1, *;q=0',
  Range: 'bytes=0-65535',
  Referer: 'https://pbx.example.com/phone/',
  'Sec-Fetch-Dest': 'audio',
  'Sec-Fetch-Mode': 'no-cors',
  'Sec-Fetch-Site': 'same-origin',
  'Cache-Control': 'no-cache',
}
