// Other products that check a JWT behind auth_request, fetched into the bench's own folder at the time of the run.
// They are no dependency of ours, and where they cannot be fetched the table says so.

import { createHmac, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'

import { statusOf } from './ask.ts'
import { freePort } from './free-port.ts'
import { type Part, type Place, until } from './place.ts'

export interface Peer {
  /** For nginx: a location's and an upstream's name. */
  id: string
  name: string
  port: number
  part: Part
  tokens(count: number): string[]
}

export interface Peers {
  found: readonly Peer[]
  /** Why there are none. */
  skipped?: string
}

const SECRET = 'a secret of thirty-two characters'

const PROGRAMS = {
  fastify: {
    name: 'fastify + @fastify/jwt',
    packages: ['fastify', '@fastify/jwt'],
    text: (port: number) => `
import fastify from 'fastify'
import jwt from '@fastify/jwt'
const app = fastify({ keepAliveTimeout: 75000 })
await app.register(jwt, { secret: ${JSON.stringify(SECRET)} })
app.get('/check', async (request, reply) => {
  try { await request.jwtVerify() } catch { return reply.code(401).send() }
  return reply.code(204).send()
})
await app.listen({ port: ${port}, host: '127.0.0.1' })
`,
  },
  express: {
    name: 'express + express-jwt',
    packages: ['express', 'express-jwt'],
    text: (port: number) => `
import express from 'express'
import { expressjwt } from 'express-jwt'
const app = express()
app.use(expressjwt({ secret: ${JSON.stringify(SECRET)}, algorithms: ['HS256'] }))
app.get('/check', (request, response) => response.status(204).end())
app.use((error, request, response, next) => response.status(401).end())
app.listen(${port}, '127.0.0.1').keepAliveTimeout = 75000
`,
  },
} as const

const b64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** One in 101 by another key, as with ours. */
const mint = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => {
    const now = Math.floor(Date.now() / 1000)
    const claims = {
      iss: 'postern',
      aud: 'postern',
      sub: String(index),
      username: `u${index}`,
      role: 'user',
      sid: randomBytes(16).toString('hex'),
      jti: randomBytes(16).toString('hex'),
      iat: now,
      exp: now + 86_400,
    }
    const text = `${b64({ alg: 'HS256', typ: 'JWT' })}.${b64(claims)}`
    const key = index % 101 === 100 ? 'nobody' : SECRET
    return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`
  })

export const openPeers = async (place: Place): Promise<Peers> => {
  const folder = place.folder('peers')
  writeFileSync(`${folder}/package.json`, '{"private":true,"type":"module"}')
  const wanted = Object.values(PROGRAMS).flatMap(({ packages }) => packages)
  const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = place.start('npm', 'any', ['npm', '--prefix', folder, 'install', ...quiet, ...wanted])
  if ((await npm.ended) !== 0) return { found: [], skipped: 'npm could not fetch other products' }
  const found: Peer[] = []
  for (const [id, { name, text }] of Object.entries(PROGRAMS)) {
    const port = await freePort()
    writeFileSync(`${folder}/${id}.js`, text(port))
    const part = place.start(id, 'back', [process.execPath, `${folder}/${id}.js`])
    await until(part, async () => (await statusOf(port, '/check')) === 401)
    found.push({ id, name, port, part, tokens: mint })
  }
  return { found }
}
