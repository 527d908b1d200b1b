// Whoever is cut, nobody else is: not beside them, not on a port that was theirs, not behind the proxy that both come
// through, and not the answer to their own logout.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { browserMissing, openBrowser } from '../fixtures/browser.ts'
import { needsOpenssl } from '../fixtures/canned-server.ts'
import { NEEDS_CUTTER } from '../fixtures/cutter.ts'
import { nginxMissing } from '../fixtures/nginx.ts'
import { nginxFound, until } from '../fixtures/postern.ts'
import { ask as askNginx, V1 } from './ask.ts'
import { addressOf, type CutSite, type Door, openCutSite } from './cut-site.ts'

const OTHERS = Number(process.env['POSTERN_OTHERS'] ?? 500)
const ROUNDS = Number(process.env['POSTERN_ROUNDS'] ?? 20)
const TLS: Door = { tls: true, ip: 4, via: 'direct' }
const skip = nginxMissing() || needsOpenssl.skip || NEEDS_CUTTER.skip

const sections = {
  streams: 'per_session = 10000\nstreams_per_session = 10000',
  sessions: 'per_user = 0',
  'roles.user': 'grants = ["subscribe:room-*", "read:app"]',
}

interface Raw {
  readonly text: string
  readonly live: boolean
  readonly port: number
  close(): Promise<void>
}

/** An event stream over one connection, from a port of ours where one is named. */
const open = async (
  t: Test,
  at: number,
  path: string,
  token: string,
  localPort?: number,
): Promise<Raw> => {
  const socket: Socket = connect({
    port: at,
    host: '127.0.0.1',
    ...(localPort !== undefined && { localPort }),
  })
  t.teardown(() => socket.destroy())
  let [text, live] = ['', true]
  let failed: Error | undefined
  socket.on('error', (error) => (failed = error)).on('close', () => (live = false))
  socket.setEncoding('latin1').on('data', (part: string) => (text += part))
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  )
  await until('it is open', () => text.includes('200 OK') || !live)
  if (!live) throw new Error(`not open: ${text.slice(0, 40)}`, { cause: failed })
  const { localPort: port = 0 } = socket
  return {
    get text() {
      return text
    },
    get live() {
      return live
    },
    port,
    async close() {
      // No TIME_WAIT: the port is free at once.
      socket.resetAndDestroy()
      if (live) await once(socket, 'close')
    },
  }
}

const uncuttable = async ({ place }: CutSite, why: string): Promise<number> => {
  const { body } = await place.operator('/metrics')
  return Number(new RegExp(`uncuttable_total\\{why="${why}"\\} (\\d+)`).exec(body)?.[1] ?? 0)
}

void t.test('who is cut alone is cut', { skip }, async (t) => {
  const site = await openCutSite(t, { sections })
  await nginxFound(site.place)
  const { port } = site.nginx
  const channel = `${V1}/sub/room-x`

  await t.test(`${OTHERS} others beside 100 that end`, async (t) => {
    const [mine, theirs] = [await site.enter('201'), await site.enter('202')]
    const openMany = async (count: number, token: string): Promise<Raw[]> => {
      const streams: Raw[] = []
      while (streams.length < count) {
        const paths = Array.from({ length: 50 }, (_, at) => (at % 2 ? channel : '/app/live/x'))
        streams.push(...(await Promise.all(paths.map((path) => open(t, port, path, token)))))
      }
      return streams
    }
    const all = await openMany(OTHERS, theirs.access)
    const going = await openMany(100, mine.access)
    await site.post('/auth/logout', mine.access)
    await until('mine have ended', () => going.every(({ live }) => !live))
    await site.publish('room-x', 'still there')
    await until('all others hear', () =>
      all.every(({ text }) => /still there|tick/.test(text.slice(-40))),
    )
    t.equal(all.filter(({ live }) => live).length, OTHERS)
    for (const one of all) await one.close()
  })

  await t.test(`${ROUNDS} ports that are another's by the time`, async (t) => {
    /** On a port that no other connection here is given by itself. */
    const openSomewhere = async (token: string): Promise<Raw> => {
      for (;;) {
        const from = 20_000 + Math.floor(Math.random() * 10_000)
        const stream = await open(t, port, '/app/live/x', token, from).catch(() => undefined)
        if (stream) return stream
      }
    }
    let hit = 0
    for (let round = 0; round < ROUNDS; round++) {
      const [mine, theirs] = [await site.enter('201'), await site.enter('202')]
      const first = await openSomewhere(mine.access)
      await first.close()
      const second = await open(t, port, '/app/live/x', theirs.access, first.port)
      t.equal(second.port, first.port)
      await site.post('/auth/logout', mine.access)
      await delay(20)
      const before = second.text.length
      await until('it hears on', () => !second.live || second.text.length > before)
      if (!second.live) hit++
      await second.close()
    }
    t.equal(hit, 0)
  })

  await t.test('strangers on the connections of a proxy that keeps them', async (t) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 8 })
    t.teardown(() => {
      agent.destroy()
    })
    const statuses = new Map<number, number>()
    let posted = 0
    const over = new AbortController()
    const postOn = async (): Promise<void> => {
      while (!over.signal.aborted) {
        const asked = request({
          host: '127.0.0.7',
          port,
          path: '/app/public/x',
          method: 'POST',
          agent,
          headers: { 'X-Who': '192.0.2.7' },
        })
        asked.end('x'.repeat(1000))
        const [response] = (await once(asked, 'response')) as [IncomingMessage]
        response.resume()
        await once(response, 'end')
        const { statusCode = 0 } = response
        statuses.set(statusCode, (statuses.get(statusCode) ?? 0) + 1)
        posted++
      }
    }
    const posting = Promise.all(Array.from({ length: 8 }, postOn))
    const ask = (path: string, token: string) => {
      const headers = { Authorization: `Bearer ${token}`, 'X-Who': '192.0.2.8' }
      const asked = request({ host: '127.0.0.7', port, path, agent: false, headers }).end()
      asked.on('error', () => undefined)
      t.teardown(() => asked.destroy())
      return once(asked, 'response')
    }
    for (let round = 0; round < ROUNDS; round++) {
      const { access } = await site.enter('201')
      await ask('/app/live/x', access)
      // One that has ended, and whose connection would be a stranger's by now.
      await site.publish(`room-p${round}`, 'x')
      const [polled] = (await ask(`${V1}/sub/room-p${round}`, access)) as [IncomingMessage]
      polled.resume()
      await once(polled, 'end')
      await delay(10)
      await site.post('/auth/logout', access)
    }
    over.abort()
    await posting
    t.ok(posted > 100)
    t.same([...statuses.keys()], [200], 'no other was hit')
  })

  for (const [what, isTrusted] of [
    ['strangers over one HTTP/2 connection of a proxy that is believed', true],
    ['over one that nobody named: whoever shares it comes back', false],
  ] as const)
    await t.test(what, async (t) => {
      const [mine, theirs] = [await site.enter('201'), await site.enter('202')]
      const [host, at] = addressOf(TLS, port)
      const shared = await uncuttable(site, 'shared')
      const part = (token: string, client: string): string[] => [
        '--http2',
        '-skN',
        '-H',
        `Authorization: Bearer ${token}`,
        '-H',
        'Accept: text/event-stream',
        `https://${host}:${at}${channel}`,
        ...(isTrusted ? ['-H', `X-Forwarded-For: ${client}`] : []),
      ]
      const front = spawn(
        'curl',
        ['-Z', ...part(mine.access, '192.0.2.8'), '--next', ...part(theirs.access, '192.0.2.9')],
        { stdio: ['ignore', 'pipe', 'ignore'] },
      )
      t.teardown(() => front.kill('SIGKILL'))
      const gone = once(front, 'close')
      let text = ''
      front.stdout.setEncoding('utf8').on('data', (more: string) => (text += more))
      await until('both are let in', async () => {
        const counts = [await site.admitted(mine.access), await site.admitted(theirs.access)]
        return counts.every((count) => count > 0)
      })
      t.equal((await uncuttable(site, 'shared')) - shared, isTrusted ? 2 : 0)
      const { body } = await askNginx(0, '/ready', { socket: site.place.at('control.sock') })
      t.match(JSON.parse(body), { nginx: { fronts: isTrusted ? [] : ['127.0.0.1'] } })
      await site.post('/auth/logout', mine.access)
      if (isTrusted) {
        await until('the other hears', async () => {
          await site.publish('room-x', 'for the other')
          return text.includes('for the other')
        })
        t.equal(front.exitCode, null)
      } else {
        await gone
        const again = await open(t, port, channel, theirs.access)
        t.ok(again.live, 'with the same right as before')
      }
      front.kill('SIGKILL')
    })

  await t.test('a logout over HTTP/2 hears its answer', { skip: browserMissing() }, async (t) => {
    const { context } = await openBrowser(t)
    const [host, at] = addressOf(TLS, port)
    const page = await context.newPage()
    await page.goto(`https://${host}:${at}/app/public/`)
    let [heard, ended] = [0, 0]
    for (let round = 0; round < ROUNDS; round++) {
      const { access } = await site.enter('201')
      const outcome = await page.evaluate(
        async ([v1, token]) => {
          const stream = new EventSource(`${v1}/sub/room-x?authorization=${token}`)
          await new Promise((resolve) => stream.addEventListener('open', resolve))
          const closed = new Promise((resolve) => {
            stream.addEventListener('error', () => {
              stream.close()
              resolve(true)
            })
          })
          const upload = fetch('/app/public/up', { method: 'POST', body: 'x'.repeat(1e6) }).then(
            ({ status }) => status,
            () => 0,
          )
          const headers = { Authorization: `Bearer ${token}` }
          const { status } = await fetch(`${v1}/auth/logout`, { method: 'POST', headers })
          const late = new Promise((resolve) => setTimeout(resolve, 5000, false))
          return [status, await upload, await Promise.race([closed, late])]
        },
        [V1, access] as const,
      )
      if (outcome[0] === 200) heard++
      if (outcome[2] === true) ended++
    }
    t.equal(heard, ROUNDS)
    t.equal(ended, ROUNDS)
  })

  t.notMatch(site.nginx.errorLog(), /exited on signal/)
})
