// What a daemon that was taken over could ask of the cutter: all of it is refused, said, and harms nobody.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { array, assert, asyncProperty, constantFrom, oneof, string } from 'fast-check'
import t from 'tap'

import { AS_NOBODY } from '../fixtures/needs.ts'
import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { cookieOf, giveOrders, listenAt, lives } from './orders.ts'

const COOKIE = '0123456789abcdef'
const MANY = 10_000
const FLOOD = 100_000

t.setTimeout(300_000) // milliseconds: 10 s on an idle machine, but it may be shared

void t.test('what listens is never cut, not by any cookie', NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const { port } = service
  const cutter = await startCutter(t, { ports: [port] })
  const { ask } = await giveOrders(t, cutter.socket)
  // Where no connection is, the kernel answers with the socket that listens.
  for (const ends of [
    `127.0.0.1 1 127.0.0.1 ${port}`,
    `0.0.0.0 0 127.0.0.1 ${port}`,
    `0.0.0.0 0 0.0.0.0 ${port}`,
    `:: 0 :: ${port}`,
  ]) {
    t.equal(await ask('look', ends), 'gone', ends)
    // All ones mean "whichever" to the kernel.
    for (const cookie of ['f'.repeat(16), '0'.repeat(16), COOKIE])
      t.equal(await ask('cut', `${ends} ${cookie}`), 'gone', ends)
  }
  t.ok(await lives(await service.visit()))
})

void t.test(`${MANY} orders for what is gone leave all others alone`, NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const cutter = await startCutter(t, { ports: [service.port] })
  const { ask } = await giveOrders(t, cutter.socket)
  const old: { ends: string; cookie: string; localPort: number }[] = []
  for (let n = 0; n < 50; n++) {
    const { ends, ended, visitor } = await service.visit(0)
    const cookie = cookieOf(await ask('look', ends))
    old.push({ ends, cookie, localPort: visitor.localPort ?? 0 })
    t.equal(await ask('cut', `${ends} ${cookie}`), 'cut')
    await ended
  }
  // On purpose from the same ports: other connections by the same name.
  const pairs = []
  for (const { localPort } of old) pairs.push(await service.visit(localPort))
  t.same(pairs.map(({ ends }) => ends).toSorted(), old.map(({ ends }) => ends).toSorted())
  const answers = await Promise.all(
    Array.from({ length: MANY }, (_, n) => {
      const { ends = '', cookie = '' } = n % 2 ? (old[n % old.length] ?? {}) : {}
      return ends === ''
        ? ask('cut', `127.0.0.2 ${1 + (n % 65_535)} 127.0.0.1 ${service.port} ${COOKIE}`)
        : ask('cut', `${ends} ${cookie}`)
    }),
  )
  t.same([...new Set(answers)], ['gone'])
  for (const pair of pairs) t.ok(await lives(pair))
  t.ok(await lives(await service.visit()), 'and it listens')
})

void t.test(
  'no other port, and nothing that this machine reaches out for',
  NEEDS_CUTTER,
  async (t) => {
    const [web, ssh] = [await listenAt(t, '127.0.0.1'), await listenAt(t, '127.0.0.1')]
    const cutter = await startCutter(t, { ports: [web.port] })
    const { ask } = await giveOrders(t, cutter.socket)
    const pair = await ssh.visit()
    for (const verb of ['look', 'cut'] as const) {
      const cookie = verb === 'cut' ? ` ${COOKIE}` : ''
      t.equal(await ask(verb, pair.ends + cookie), 'refused port')
      t.equal(
        await ask(verb, pair.ends.replace(String(ssh.port), '065536') + cookie),
        'refused malformed',
      )
    }
    // The visitor's own end, where the port that is allowed is the other's.
    const { served, visitor } = await web.visit()
    const turned = `127.0.0.1 ${web.port} 127.0.0.1 ${served.remotePort}`
    t.equal(await ask('look', turned), 'refused port')
    t.ok(visitor.readyState === 'open' && (await lives(pair)))
    t.match(
      cutter.log(),
      /<4>refused \(port\): look 1 127\.0\.0\.1 \d+ 127\.0\.0\.1 \d+\n<4>POSTERN_CUT_PORTS=\d+: systemctl edit postern-cut\n/,
    )
  },
)

void t.test('nothing of another user, on a port that is allowed', NEEDS_CUTTER, async (t) => {
  const foreign = `use Socket; socket(my $l, AF_INET, SOCK_STREAM, 0); bind($l, pack_sockaddr_in(0, INADDR_LOOPBACK)); listen($l, 9);
    $| = 1; print +(unpack_sockaddr_in(getsockname $l))[0], "\\n"; accept(my $c, $l); sysread $c, my $b, 9; syswrite $c, $b; sleep 60`
  const [program, ...before] = AS_NOBODY
  const child = spawn(program, [...before, 'perl', '-e', foreign], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
  const port = Number(line)
  const visitor = connect(port, '127.0.0.1')
  t.teardown(() => visitor.destroy())
  await once(visitor, 'connect')

  const cutter = await startCutter(t, { ports: [port] })
  const { ask } = await giveOrders(t, cutter.socket)
  // Until it is accepted, and after.
  for (const sent of ['', 'x']) {
    visitor.write(sent)
    if (sent) await once(visitor, 'data')
    const ends = `127.0.0.1 ${visitor.localPort} 127.0.0.1 ${port}`
    t.equal(await ask('look', ends), 'refused owner')
  }
  t.match(cutter.log(), '<4>POSTERN_CUT_USER=0: systemctl edit postern-cut')
  const theirs = await startCutter(t, { ports: [port], user: 'nobody' })
  const orders = await giveOrders(t, theirs.socket)
  t.match(
    await orders.ask('look', `127.0.0.1 ${visitor.localPort} 127.0.0.1 ${port}`),
    /^[0-9a-f]{16} 0$/,
  )
  const nobodys = await startCutter(t, { ports: [port], user: 'no-such-user' })
  t.equal(
    await (
      await giveOrders(t, nobodys.socket)
    ).ask('look', `127.0.0.1 ${visitor.localPort} 127.0.0.1 ${port}`),
    'refused owner',
  )
})

void t.test('a cookie from elsewhere is none', NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const [ours, theirs] = [
    await startCutter(t, { ports: [service.port] }),
    await startCutter(t, { ports: [service.port] }),
  ]
  const [one, two] = [await giveOrders(t, ours.socket), await giveOrders(t, theirs.socket)]
  const [pair, other] = [await service.visit(), await service.visit()]
  const cookie = cookieOf(await two.ask('look', pair.ends))
  t.equal(await one.ask('cut', `${pair.ends} ${cookie}`), 'refused unlooked')
  t.equal(await one.ask('cut', `${other.ends} ${cookie}`), 'gone', "another connection's")
  t.match(ours.log(), /<4>refused \(unlooked\): cut 1 /)
  t.ok((await lives(pair)) && (await lives(other)))
})

void t.test(
  'a line that is no order is refused, or ends the client alone',
  NEEDS_CUTTER,
  async (t) => {
    const service = await listenAt(t, '127.0.0.1')
    const { port } = service
    const cutter = await startCutter(t, { ports: [port] })
    const bystander = await giveOrders(t, cutter.socket)
    const pair = await service.visit()
    const good = `127.0.0.1 1 127.0.0.1 ${port}`

    const { ask, write, stray } = await giveOrders(t, cutter.socket)
    for (const rest of [
      '',
      `127.0.0.1 1 127.0.0.1`,
      `${good} ${COOKIE}`,
      `${good} `,
      ` ${good}`,
      `${good}\r`,
      `${good}\0`,
      `127.0.0.1  1 127.0.0.1 ${port}`,
      `127.1 1 127.0.0.1 ${port}`,
      `localhost 1 127.0.0.1 ${port}`,
      `::1 1 127.0.0.1 ${port}`,
      `fe80::1%lo 1 fe80::1%lo ${port}`,
      `1:2:3 1 127.0.0.1 ${port}`,
      `127.0.0.1 65536 127.0.0.1 ${port}`,
      `127.0.0.1 -1 127.0.0.1 ${port}`,
      `127.0.0.1 1e3 127.0.0.1 ${port}`,
      `${'1'.repeat(45)} 1 ${'1'.repeat(45)} ${port} ${'x'.repeat(500)}`,
    ]) {
      t.equal(await ask('look', rest), 'refused malformed', JSON.stringify(rest))
    }
    for (const cookie of [
      '',
      ' 1',
      ` ${COOKIE}0`,
      ` ${COOKIE.toUpperCase()}`,
      ` ${COOKIE} ${COOKIE}`,
    ])
      t.equal(await ask('cut', good + cookie), 'refused malformed', cookie)
    t.equal(await ask('destroy', good), 'refused malformed')
    write(`look 0000000077 ${good}\nlook 12345`)
    write(`67890 ${good}\n`)
    await ask('look', good)
    t.same(stray, ['0000000077 gone', '1234567890 gone'])

    for (const text of [
      '\n',
      'look\n',
      'look x\n',
      `look 12345678901 ${good}\n`,
      `LOOK 1 ${good}\n`,
      'GET / HTTP/1.1\r\n',
      'x'.repeat(161),
      `look 1 ${good}\n${'\0'.repeat(70_000)}`,
    ]) {
      const client = await giveOrders(t, cutter.socket)
      client.write(text)
      await client.closed
      t.same(
        client.stray,
        text.startsWith('look 1 ') ? ['1 gone'] : [],
        'what came before is answered',
      )
    }

    await assert(
      asyncProperty(
        array(
          oneof(
            string({ unit: 'binary', maxLength: 200 }),
            array(
              constantFrom(
                'look',
                'cut',
                ' ',
                '1',
                '127.0.0.1',
                '::',
                '\n',
                '\0',
                COOKIE,
                `${port}`,
              ),
              {
                maxLength: 30,
              },
            ).map((parts) => parts.join('')),
          ),
          { maxLength: 20 },
        ),
        async (lines) => {
          const client = await giveOrders(t, cutter.socket)
          client.write(`${lines.join('\n')}\n\n`)
          await client.closed
          for (const line of client.stray)
            t.match(line, /^\d{1,10} (?:gone|refused (?:malformed|port))$/)
        },
      ),
      { numRuns: 100, seed: 16 },
    )
    t.match(await bystander.ask('look', pair.ends), /^[0-9a-f]{16} 0$/)
    t.ok(await lives(pair))
    t.equal(cutter.log().match(/refused/g)?.length, 10, 'and no flood of lines')
    t.notMatch(cutter.log(), /[^\x20-\x7e\n]/)
  },
)

void t.test('floods are refused, counted and not written down', NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const cutter = await startCutter(t, { ports: [service.port] })
  const flood = await giveOrders(t, cutter.socket)
  const honest = await giveOrders(t, cutter.socket)
  const pair = await service.visit()
  const cookie = cookieOf(await honest.ask('look', pair.ends))
  const started = performance.now()
  flood.write(`cut 1 127.0.0.1 1 127.0.0.1 ${service.port} ${COOKIE}\n`.repeat(FLOOD))
  while (flood.stray.length < FLOOD)
    t.equal(cookieOf(await honest.ask('look', pair.ends)), cookie, 'others are answered meanwhile')
  const seconds = (performance.now() - started) / 1000
  const done = flood.stray.filter((line) => line === '1 gone').length
  const refused = flood.stray.filter((line) => line === '1 refused rate').length
  t.equal(done + refused, FLOOD)
  t.ok(done <= 20_000 * (Math.floor(seconds) + 2), `${done} carried out in ${seconds} s`)
  t.comment(`${refused} of ${FLOOD} refused: a slow machine may do all of them in time`)
  await cutter.stop()
  t.ok(cutter.log().split('\n').length < 14, cutter.log())
})

void t.test('who reads no answers is not waited for', NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const cutter = await startCutter(t, { ports: [service.port] })
  const slow = await giveOrders(t, cutter.socket)
  const other = await giveOrders(t, cutter.socket)
  slow.connection.pause()
  for (let n = 0; n < MANY * 10; n++) slow.write(`look 1 127.0.0.1 1 127.0.0.1 ${service.port}\n`)
  const pair = await service.visit()
  for (let n = 0; n < 10; n++) t.match(await other.ask('look', pair.ends), /^[0-9a-f]{16} 0$/)
  slow.connection.on('error', () => undefined)
  while (!cutter.log().includes('refused (unread)')) await other.ask('look', pair.ends)
  const peak = Number(
    /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${cutter.pid}/status`, 'utf8'))?.[1],
  )
  t.ok(peak < 20_000, `${peak} KiB`)
})

void t.test('there is an end to clients, and then room again', NEEDS_CUTTER, async (t) => {
  const cutter = await startCutter(t, { ports: [80] })
  const clients = []
  for (let n = 0; n < 32; n++) clients.push(await giveOrders(t, cutter.socket))
  const late = connect(cutter.socket)
    .resume()
    .on('error', () => undefined)
  await once(late, 'close')
  t.match(cutter.log(), '<4>refused (clients): there are 32')
  clients[0]?.connection.end()
  await clients[0]?.closed
  const again = await giveOrders(t, cutter.socket)
  t.equal(await again.ask('look', '127.0.0.1 1 127.0.0.1 80'), 'gone')
})

void t.test('without the right it says so when it is first asked', NEEDS_CUTTER, async (t) => {
  const server = createServer().listen(0)
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as AddressInfo
  const cutter = await startCutter(t, {
    ports: [port],
    before: ['setpriv', '--bounding-set=-net_admin,-net_raw'],
  })
  const { ask } = await giveOrders(t, cutter.socket)
  t.equal(await ask('look', `127.0.0.1 1 127.0.0.1 ${port}`), 'refused denied')
  t.equal(await ask('cut', `127.0.0.1 1 127.0.0.1 ${port} ${COOKIE}`), 'refused denied')
  t.match(cutter.log(), '<4>nothing can be cut (Operation not permitted): CAP_NET_ADMIN')
})
