// script/demo: Postern behind nginx on this machine, for as long as somebody looks at it.

import { once } from 'node:events'
import { createServer } from 'node:net'

import { BASE, PASSWORD, RECORDINGS, type Site, startSite } from './site.ts'
import { tellStory } from './story.ts'

const say = (line = ''): void => {
  process.stdout.write(`${line}\n`)
}

const fail = (message: string): never => {
  process.stderr.write(`demo: ${message}\n`)
  process.exit(1)
}

/** Before anything starts: nginx comes last, some seconds later. */
const findPortProblem = async (port: number): Promise<string | undefined> => {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'EADDRINUSE' ? 'is taken' : `may not be used by you (${code})`
    return `port ${port} ${why}: choose another with --port N`
  }
  server.close()
  await once(server, 'close')
  return undefined
}

const describe = ({ url }: Site): void => {
  say(`Postern stands beside nginx at ${url}`)
  say(`Open ${url}/ in a browser: log in, live channels, recordings, your sessions`)
  say(`Users 201, 202 (role user) and 900 (role admin), password ${PASSWORD}`)
  say()
  say('# log in, and keep the access token')
  say(`BASE_URL="${url}${BASE}"`)
  say(
    `ACCESS_TOKEN="$(curl -sS -X POST "$BASE_URL/auth/login" -H 'Content-Type: application/json' -d '{"username":"201","password":"${PASSWORD}"}' | sed -nE 's/.*"access_token":"([^"]+)".*/\\1/p')"`,
  )
  say()
  say('# who am I')
  say(`curl -sS "$BASE_URL/profile" -H "Authorization: Bearer $ACCESS_TOKEN"`)
  say()
  say(
    '# part of a recording: of own calls (206), of a call of 202 alone (403), and without a token (401)',
  )
  for (const name of RECORDINGS) {
    say(
      `curl -sS -o /dev/null -w '%{http_code} %{size_download} bytes\\n' -r 0-299 "${url}/pbxcore/softphone/recordings/${name}" -H "Authorization: Bearer $ACCESS_TOKEN"`,
    )
  }
  say(`curl -sS -i "${url}/pbxcore/softphone/recordings/${RECORDINGS[0]}"`)
  say()
  say(
    '# hear the channel: a producer publishes every three seconds (Ctrl-C ends it). What stands in an address',
  )
  say(
    '# may come to stand in a log: never the token, but a ticket, good for one stream, for seconds',
  )
  say(
    `TICKET="$(curl -sS -X POST "$BASE_URL/auth/ticket" -H "Authorization: Bearer $ACCESS_TOKEN" -H 'Content-Type: application/json' -d '{"action":"subscribe","resource":"users-state"}' | sed -nE 's/.*"ticket":"([^"]+)".*/\\1/p')"`,
  )
  say(`curl -sSN "$BASE_URL/sub/users-state?ticket=$TICKET" -H 'Accept: text/event-stream'`)
  say()
  say('# publish to it yourself')
  say(
    `curl -sS -X POST "$BASE_URL/pub/users-state" -H 'Content-Type: application/json' -d '{"event":"users-state-update"}'`,
  )
  say()
  say('# log out: the same token is refused from now on (401)')
  say(`curl -sS -X POST "$BASE_URL/auth/logout" -H "Authorization: Bearer $ACCESS_TOKEN"`)
  say(`curl -sS -i "$BASE_URL/profile" -H "Authorization: Bearer $ACCESS_TOKEN"`)
  say()
  say('Ctrl-C ends everything and leaves nothing behind.')
}

// Read by script/demo, before it sets anything up.
const [port, check] = [Number(process.argv[2]), process.argv[3] === '--check']
const portProblem = await findPortProblem(port)
if (portProblem !== undefined) fail(portProblem)
const stopped = Promise.withResolvers<number>()
let isStopped = false
// 128 + the signal's number, as a shell says it. A closed terminal is SIGHUP.
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.on(signal, () => {
    isStopped = true
    // A demo that is stopped has done what it was for; a story that is cut off has not.
    stopped.resolve(check ? code : 0)
  })
}
// The terminal is gone: there is nobody to tell, but everything still has to be put away.
process.stdout.on('error', () => {
  stopped.resolve(129)
})

say('Starting Postern and nginx …')
let site: Site
try {
  site = await startSite(port)
} catch (error) {
  const { message } = error as Error
  fail(
    /Address already in use/i.test(message)
      ? `port ${port} is taken: choose another with --port N`
      : message,
  )
  throw error
}
const broken = site.failed.then((why) => {
  process.stderr.write(`demo: ${why}\n`)
  return 1
})
if (!check && !isStopped) describe(site)
const story = check ? [tellStory(site, say)] : []
const code = await Promise.race([stopped.promise, broken, ...story])
await site.stop()
process.exit(code)
