import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  answer,
  createCertificate,
  createToken,
  needsOpenssl,
  openCannedServer,
} from './fixtures/canned-server.ts'
import { needs } from './fixtures/needs.ts'

const BIN = join(import.meta.dirname, '../src/get-auth-token.ts')
const TOKEN = createToken({ exp: Math.floor(Date.now() / 1000) + 900 })
const good = answer(200, { result: true, data: { accessToken: TOKEN }, messages: {} })

interface Run {
  code: number | null
  signal: string | null
  out: string
  err: string
}

const start = (
  env: Record<string, string>,
  stdout: 'pipe' | number = 'pipe',
  args: string[] = [],
) => {
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { ...process.env, MIKOPBX_PASSWORD: 'sesame-open', ...env },
    stdio: ['ignore', stdout, 'pipe'],
  })
  let [out, err] = ['', '']
  child.stdout?.on('data', (chunk) => (out += String(chunk)))
  child.stderr?.on('data', (chunk) => (err += String(chunk)))
  const ended = new Promise<Run>((resolve) => {
    child.on('close', (code, signal) => {
      resolve({ code, signal, out, err })
    })
  })
  return { child, ended }
}

void t.test('the command prints the token, one newline and nothing else', async (t) => {
  const server = await openCannedServer(t, [answer(503, '', { 'Retry-After': '0' }), good])
  const { ended } = start({ MIKOPBX_API_URL: `http://127.0.0.1:${server.port}` })
  t.same(await ended, { code: 0, signal: null, out: `${TOKEN}\n`, err: '' })
  t.equal(server.requests.length, 2)
})

void t.test('--debug shows neither the password nor the token', async (t) => {
  const server = await openCannedServer(t, [good])
  const { ended } = start({ MIKOPBX_API_URL: `http://127.0.0.1:${server.port}` }, 'pipe', [
    '--debug',
  ])
  const { code, out, err } = await ended
  t.equal(code, 0)
  t.equal(out, `${TOKEN}\n`)
  t.match(err, /debug: attempt 1 of 3/)
  t.notMatch(err, /sesame-open/)
  for (const part of TOKEN.split('.')) t.notOk(err.includes(part))
})

void t.test('wrong usage is 64', async (t) => {
  t.match(await start({ MIKOPBX_API_URL: '' }).ended, { code: 64, out: '', err: /MIKOPBX_API_URL/ })
})

void t.test('a broken pipe is no crash', async (t) => {
  const server = await openCannedServer(t, [
    (socket) => {
      // the answer waits until the reader of stdout has gone
      child.stdout?.on('close', () => socket.end(good))
      child.stdout?.destroy()
    },
  ])
  const { child, ended } = start({ MIKOPBX_API_URL: `http://127.0.0.1:${server.port}` })
  const { code, err } = await ended
  t.equal(code, 2)
  t.match(err, /^get-auth-token: the token could not be written to stdout[^\n]*\n$/)
})

void t.test(
  'a full disk is no crash',
  needs(process.platform === 'linux', 'no /dev/full here'),
  async (t) => {
    const server = await openCannedServer(t, [good])
    const full = openSync('/dev/full', 'w')
    t.teardown(() => closeSync(full))
    const { ended } = start({ MIKOPBX_API_URL: `http://127.0.0.1:${server.port}` }, full)
    t.match(await ended, { code: 2, err: /^get-auth-token: the token could not be written/ })
  },
)

void t.test('a closed stderr does not cost the token', async (t) => {
  const server = await openCannedServer(t, [
    (socket) => {
      child.stderr?.on('close', () => socket.end(good))
      child.stderr?.destroy()
    },
  ])
  const env = { MIKOPBX_API_URL: `http://127.0.0.1:${server.port}` }
  const { child, ended } = start(env, 'pipe', ['--debug'])
  t.match(await ended, { code: 0, out: `${TOKEN}\n` })
})

void t.test('Ctrl-C ends it by the signal, so that a script stops too', async (t) => {
  const server = await openCannedServer(t, [
    () => {
      child.kill('SIGINT')
    },
  ])
  const { child, ended } = start({ MIKOPBX_API_URL: `http://127.0.0.1:${server.port}` })
  t.same(await ended, { code: null, signal: 'SIGINT', out: '', err: '' })
})

void t.test('NODE_EXTRA_CA_CERTS is trusted', needsOpenssl, async (t) => {
  const certificate = createCertificate(t.testdir(), 'IP:127.0.0.1')
  const server = await openCannedServer(t, [good], { tls: certificate })
  const { ended } = start({
    MIKOPBX_API_URL: `https://127.0.0.1:${server.port}`,
    NODE_EXTRA_CA_CERTS: certificate.file,
  })
  t.same(await ended, { code: 0, signal: null, out: `${TOKEN}\n`, err: '' })
})
