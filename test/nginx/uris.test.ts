// What nginx opens, or passes on, is what was decided, however the address is written: whatever is asked about is put
// where that name stands, and must be what comes back. POSTERN_URIS says how many addresses, POSTERN_SEED which.
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname } from 'node:path'
import t from 'tap'

import { isResource } from '../../src/auth/grants.ts'
import { readResource } from '../../src/http/resource.ts'
import { requestOf } from '../fixtures/daemon.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { type Seen, startApplication } from './application.ts'
import { RECORDINGS, V3 } from './ask.ts'
import { PASS, refuse, startDaemon } from './daemon.ts'

const COUNT = Number(process.env['POSTERN_URIS'] ?? 2000)
const SEED = Number(process.env['POSTERN_SEED'] ?? 1)
const AT_ONCE = 8

/** A location of a site's own, with the variable that was a header of the client's choice before. */
const OWN = '/own'
const BASES = [RECORDINGS, V3, OWN]

const escapeByte = (byte: number): string => `%${byte.toString(16).padStart(2, '0')}`

/** mulberry32: the same addresses at each run. */
const createRandom = (seed: number): ((below: number) => number) => {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

// Bytes as latin1. What ends a request line is sent escaped alone.
const CRAFTED = [
  '. .. ... / // /./ /../ /x/../ %2f %2F..%2f %2e %2e%2e %252f %252e%252e %25 % %2 %zz %00 %0a %0d%0a',
  '%0d%0aX:%20y %09 %20 %20%20 + %2b * %2a ** \\ %5c ..\\ ..;/ ;x=1 : ~ ? %3f ?a=/../b # %23 #/../b',
  `& = " ' < > { } | ^ $uri \${uri} $1 %c0%ae %c0%af %ed%a0%80 %f4%90%80%80 %ff \xff %c3 \xc3 %ef%bb%bf`,
  '%d0%98 \xd0\x98 %d0\x98 e%cc%81 %c3%a9 %f0%9f%98%80 %c2%a0 %c2%85 %e2%80%ae %7f .wav',
].flatMap((line) => line.split(' '))

const PLAIN =
  'a b.wav x 0 - +7 %20 %D0%98 \xd0\x98 %c3%a9 e%cc%81 %f0%9f%98%80 ( ) [ ] %25 %23 %3f * , ='.split(
    ' ',
  )

const createUri = (random: (below: number) => number, n: number): string => {
  // A folder of its own, unless it climbs out of it.
  let uri = `${BASES[n % BASES.length]}/${random(8) === 0 ? '' : `n${n}/`}`
  for (let part = random(6); part >= 0; part--) {
    const kind = random(8)
    const byte = random(256)
    if (kind < 2) uri += CRAFTED[random(CRAFTED.length)]
    else if (kind > 2) uri += PLAIN[random(PLAIN.length)]
    else uri += byte > 0x20 && byte !== 0x7f ? String.fromCharCode(byte) : escapeByte(byte)
    if (random(4) === 0) uri += '/'
  }
  return uri
}

/** The status and body, as bytes in latin1; a status of 0 where there is no answer. */
const send = async (port: number, uri: string): Promise<{ status: number; body: string }> => {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1')
  let text = ''
  socket.on('data', (chunk: string) => (text += chunk)).on('error', () => undefined)
  socket.write(Buffer.from(`GET ${uri} HTTP/1.0\r\nHost: x\r\n\r\n`, 'latin1'))
  await once(socket, 'close')
  const [head = '', ...rest] = text.split('\r\n\r\n')
  return { status: Number(head.split(' ')[1] ?? 0), body: rest.join('\r\n\r\n') }
}

void t.test(`${COUNT} addresses`, { skip: nginxMissing(), timeout: 600_000 }, async (t) => {
  const folder = mkdtempSync(`${tmpdir()}/postern-uris-`)
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    recordings: `${folder}/recordings`,
    pbx: await startApplication(t),
    site: [
      [
        '    location / {\n        return 404;',
        `    location ^~ ${OWN}/ {
        set $postern_action read;
        set $postern_resource files$uri;
        set $postern_accept header;
        include postern/postern-protect.conf;
        root ${folder}/files;
    }
    location / {
        return 404;`,
      ],
    ],
  })

  /** What was decided on, by the address as the client wrote it. */
  const decided = new Map<string, string>()
  daemon.answer = ({ url, headers }) => {
    const resource = readResource({ ...requestOf([]), id: url.slice('/check/'.length) })
    if (resource === undefined || !isResource(resource)) return refuse(403, 'bad_resource')
    try {
      const path = `${folder}/${resource}`
      mkdirSync(dirname(path), { recursive: true })
      writeFileSync(path, resource)
    } catch {
      return refuse(403, 'untried') // a folder of another address stands there
    }
    decided.set(String(headers['x-original-uri']), resource)
    return PASS
  }

  const random = createRandom(SEED)
  const uris = new Set(Array.from({ length: COUNT }, (_, n) => createUri(random, n)))
  const counts = { opened: 0, passedOn: 0, refused: 0, notAsked: 0 }
  const mismatches: string[] = []
  const tryOne = async (uri: string): Promise<void> => {
    const { status, body } = await send(nginx.port, uri)
    const resource = decided.get(uri)
    if (resource === undefined) {
      counts[status === 403 ? 'refused' : 'notAsked']++
      if (![400, 403, 404].includes(status)) mismatches.push(`${uri}: ${status}, and nobody asked`)
      return
    }
    const isApi = resource.startsWith('api/')
    // The application takes no query with bytes beyond ASCII.
    if (isApi && status === 400) return
    counts[isApi ? 'passedOn' : 'opened']++
    const came =
      isApi && status === 200
        ? decodeURIComponent(
            (JSON.parse(body) as Seen).url.replace('/pbxcore/', '').replace(/\?.*/, ''),
          )
        : Buffer.from(body, 'latin1').toString()
    if (came !== resource) mismatches.push(`${uri}: decided ${resource}, got ${status} ${came}`)
  }
  const all = [...uris]
  for (let at = 0; at < all.length; at += AT_ONCE) {
    await Promise.all(all.slice(at, at + AT_ONCE).map(tryOne))
  }
  t.comment(`seed ${SEED}: ${JSON.stringify(counts)}`)
  t.same(mismatches, [])
  t.ok(counts.opened > COUNT / 4 && counts.passedOn > COUNT / 8 && counts.refused > COUNT / 20)
  t.notMatch(nginx.errorLog(), /\[(?:alert|emerg|crit)\]/)
})
