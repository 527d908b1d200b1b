// script/demo --check: the whole story, a line a step with what was expected and what was seen.

import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'

import { BASE, PASSWORD, PBX, RECORDINGS, type Site } from './site.ts'

type Say = (line?: string) => void

interface Tokens {
  access: string
  refresh: string
}

const NO_CUTS = 'since the kernel cuts connections for root alone: run script/demo as root'
const LIVE_WITHIN = 5000 // milliseconds that a published message may take

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })

/** The value, or what was thrown instead: a step that fails says so and lets the others run. */
const attempt = async (action: () => Promise<string>): Promise<string> => {
  try {
    return await action()
  } catch (error) {
    return `nothing: ${(error as Error).message}`
  }
}

/** What a client holds open. */
interface Held {
  /** `closed`, or `open` where it is still there after so many milliseconds. */
  ended(milliseconds: number): Promise<string>
  close(): void
}

const within =
  (over: Promise<string>) =>
  (milliseconds: number): Promise<string> =>
    Promise.race([
      over,
      new Promise<string>((resolve) => setTimeout(resolve, milliseconds, 'open')),
    ])

const timeLimit = (): AbortSignal => AbortSignal.timeout(LIVE_WITHIN)

/** The first message that a subscriber gets which holds `mark`. */
const hear = {
  async longPoll(url: string, mark: string): Promise<string> {
    let headers: Record<string, string> = {}
    for (;;) {
      const response = await fetch(url, { headers, signal: timeLimit() })
      const text = await response.text()
      if (response.status !== 200) return String(response.status)
      if (text.includes(mark)) return 'heard'
      headers = {
        'If-None-Match': response.headers.get('etag') ?? '',
        'If-Modified-Since': response.headers.get('last-modified') ?? '',
      }
    }
  },
  async eventSource(url: string, mark: string): Promise<string> {
    const headers = { Accept: 'text/event-stream' }
    const response = await fetch(url, { headers, signal: timeLimit() })
    if (response.status !== 200 || !response.body) return String(response.status)
    let text = ''
    for await (const chunk of response.body) {
      text += Buffer.from(chunk as Uint8Array).toString()
      if (text.includes(mark)) return 'heard'
    }
    return 'the stream ended'
  },
  webSocket(url: string, mark: string): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>()
    const socket = new WebSocket(url.replace(/^http/, 'ws'))
    const timer = setTimeout(() => {
      resolve('heard nothing')
      socket.close()
    }, LIVE_WITHIN)
    socket.addEventListener('message', ({ data }) => {
      if (!String(data).includes(mark)) return
      clearTimeout(timer)
      resolve('heard')
      socket.close()
    })
    socket.addEventListener('error', () => {
      clearTimeout(timer)
      resolve('refused')
    })
    return promise
  },
}

export const tellStory = async (site: Site, say: Say): Promise<number> => {
  const { url } = site
  const api = `${url}${BASE}`
  const recording = `${url}/pbxcore/softphone/recordings/${RECORDINGS[0]}`
  let failures = 0

  const step = async (
    what: string,
    expected: string,
    action: () => Promise<string>,
  ): Promise<void> => {
    const seen = await attempt(action)
    if (seen !== expected) failures++
    say(`${seen === expected ? 'ok  ' : 'FAIL'}  ${what}: expected ${expected}, saw ${seen}`)
  }
  const status = async (where: string, headers: Record<string, string> = {}): Promise<string> => {
    const response = await fetch(where, { headers, signal: timeLimit() })
    await response.body?.cancel()
    return String(response.status)
  }
  const post = (path: string, headers: Record<string, string>, body?: string): Promise<Response> =>
    fetch(`${api}${path}`, { method: 'POST', headers, ...(body !== undefined && { body }) })
  const login = async (username: string, password = PASSWORD): Promise<Response> =>
    post(
      '/auth/login',
      { 'Content-Type': 'application/json' },
      JSON.stringify({ username, password }),
    )
  const tokensOf = async (username: string): Promise<Tokens> => {
    const body = (await (await login(username)).json()) as Record<string, string>
    return { access: body['access_token'] ?? '', refresh: body['refresh_token'] ?? '' }
  }

  /** A WebSocket as nginx proxies it, and whether it ends within a time. */
  const openSocket = (path: string, token: string): Promise<Held> => {
    const { promise, resolve, reject } = Promise.withResolvers<Held>()
    const asked = request(`${url}${path}`, {
      headers: {
        ...bearer(token),
        Connection: 'Upgrade',
        Upgrade: 'websocket',
        'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'cG9zdGVybiBpcyBhIGdhdGU=',
        'Sec-WebSocket-Protocol': 'sip',
      },
    })
    asked.on('error', reject)
    asked.on('response', ({ statusCode }) => reject(new Error(`${statusCode}`)))
    asked.on('upgrade', (_, socket) => {
      const over = new Promise<string>((closed) => socket.on('close', () => closed('closed')))
      socket.on('error', () => {}) // what is cut ends with a reset
      resolve({ ended: within(over), close: () => socket.destroy() })
    })
    asked.end()
    return promise
  }

  let ticketed = ''
  /** An EventSource as a client holds it, and whether it ends within a time. */
  const openStream = async (token: string): Promise<Held> => {
    const response = await fetch(`${api}/sub/users-state`, {
      headers: { ...bearer(token), Accept: 'text/event-stream' },
    })
    const reader = response.body?.getReader()
    const over = (async () => {
      for (;;) if ((await reader?.read())?.done !== false) return 'closed'
    })()
    return {
      ended: within(over.catch(() => 'closed')), // what is cut ends with a reset
      close: () => void reader?.cancel(),
    }
  }

  say(`Postern beside nginx at ${url}: the story`)
  await step('a wrong password', '401', async () => String((await login('201', 'wrong')).status))
  await step('empty credentials', '400', async () => String((await login('', '')).status))
  await step('user 201 logs in', '200', async () => String((await login('201')).status))
  const user = await tokensOf('201')
  const admin = await tokensOf('900')
  await step('their profile', '201 user', async () => {
    const response = await fetch(`${api}/profile`, { headers: bearer(user.access) })
    const body = (await response.json()) as { user: { username: string; role: string } }
    return `${body.user.username} ${body.user.role}`
  })

  await step('a recording without a token', '401 Bearer', async () => {
    const response = await fetch(recording)
    return `${response.status} ${(response.headers.get('www-authenticate') ?? '').split(' ')[0]}`
  })
  await step('the first 300 bytes of it with one', '206 300 audio/wav', async () => {
    const headers = { ...bearer(user.access), Range: 'bytes=0-299' }
    const response = await fetch(recording, { headers })
    const { byteLength } = await response.arrayBuffer()
    return `${response.status} ${byteLength} ${response.headers.get('content-type')}`
  })
  const ofAnother = `${url}/pbxcore/softphone/recordings/${RECORDINGS[1]}`
  await step('a call of 202 alone, for 201', '403', () => status(ofAnother, bearer(user.access)))
  await step('the same for 202', '200', async () =>
    status(ofAnother, bearer((await tokensOf('202')).access)),
  )
  await step('the same for 900, who hears all', '200', () =>
    status(ofAnother, bearer(admin.access)),
  )
  await step('the recording with a token in its URL', '401', () =>
    status(`${recording}?authorization=${user.access}`),
  )
  await step('an application behind nginx, as user 201', '403', () =>
    status(`${url}/app/`, bearer(user.access)),
  )
  await step('the same as 900, who sends another name along', '900 admin', async () => {
    const response = await fetch(`${url}/app/`, {
      headers: { ...bearer(admin.access), 'X-Auth-User': 'root', 'X-Auth-Role': 'root' },
    })
    const body = (await response.json()) as { user: string; role: string }
    return `${body.user} ${body.role}`
  })

  for (const [name, subscribe] of Object.entries(hear)) {
    await step(`channel users-state by ${name}`, 'heard', async () => {
      const mark = `story-${name}`
      const heard = subscribe(`${api}/sub/users-state?authorization=${user.access}`, mark)
      // Published until it is heard: the demo's own producer writes into the same one-message buffer.
      const again = setInterval(() => {
        site.publish('users-state', JSON.stringify({ event: mark })).catch(() => {})
      }, 100)
      const said = await heard.finally(() => {
        clearInterval(again)
      })
      return said
    })
  }
  await step('user 201 on a channel that is not theirs', '403', () =>
    status(`${api}/sub/event-bus`, bearer(user.access)),
  )
  await step('nobody on a channel', '401', () => status(`${api}/sub/users-state`))
  await step('the refresh token on a recording', '401', () =>
    status(recording, bearer(user.refresh)),
  )
  await step('the refresh token on the profile', '403', () =>
    status(`${api}/profile`, bearer(user.refresh)),
  )
  let renewed = ''
  await step('the refresh token on refresh', '200', async () => {
    const response = await post('/auth/refresh', bearer(user.refresh))
    renewed = ((await response.json()) as Record<string, string>)['access_token'] ?? ''
    return String(response.status)
  })
  await step('the new access token', '200', () =>
    status(`${api}/check-media-access`, bearer(renewed)),
  )

  await step('a ticket for one recording, in its URL', '206', async () => {
    const asked = { action: 'read', resource: `recordings/${RECORDINGS[0]}` }
    const headers = { ...bearer(user.access), 'Content-Type': 'application/json' }
    const response = await post('/auth/ticket', headers, JSON.stringify(asked))
    const { ticket } = (await response.json()) as { ticket: string }
    ticketed = ticket
    return status(`${recording}?ticket=${ticket}`, { Range: 'bytes=0-9' })
  })
  await step('the same ticket on another recording', '401', () =>
    status(`${ofAnother}?ticket=${ticketed}`),
  )
  // What programs show: a wallboard listens by a key of its own, a CRM asks for a link to one call of one user.
  const wallboard = site.run('machine-key', 'add', 'wallboard', '--grants', 'subscribe:users-state')
  const crm = site.run('machine-key', 'add', 'crm', '--grants', 'ticket:201')
  let link = ''
  await step("a CRM's link to that recording", '206', async () => {
    const asked = { user: '201', action: 'read', resource: `recordings/${RECORDINGS[0]}` }
    const headers = { ...bearer(crm), 'Content-Type': 'application/json' }
    const response = await post('/auth/ticket', headers, JSON.stringify(asked))
    const { ticket } = (await response.json()) as { ticket?: string }
    if (ticket === undefined) return `no ticket (${response.status})`
    link = `${recording}?ticket=${ticket}`
    return status(link, { Range: 'bytes=0-9' })
  })
  await step('the CRM itself on that recording', '403', () => status(recording, bearer(crm)))

  const streams = await Promise.all([openStream(user.access), openStream(admin.access)])
  const board = await openStream(wallboard)
  const operator = await tokensOf('900')
  const sockets: Held[] = []
  for (const [what, path, token] of [
    ['SIP over WebSocket', '/pbxcore/softphone/ws', user.access],
    ["an application's WebSocket, as 900", '/app/live/', operator.access],
  ] as const) {
    await step(what, 'open', async () => {
      sockets.push(await openSocket(path, token))
      return 'open'
    })
  }
  await step('user 201 logs out', '200', async () =>
    String((await post('/auth/logout', bearer(user.access))).status),
  )
  await step('their open stream', 'closed', () => streams[0].ended(500))
  await step("user 900's open stream", 'open', () => streams[1].ended(500))
  streams[1].close()
  if (site.cuts) {
    const gone = async (socket?: Held) => socket?.ended(500) ?? 'never opened'
    await step('their SIP over WebSocket', 'closed', () => gone(sockets[0]))
    await step("the session of the application's WebSocket is logged out", '200', async () =>
      String((await post('/auth/logout', bearer(operator.access))).status),
    )
    await step('that WebSocket', 'closed', () => gone(sockets[1]))
  } else {
    say(`--    the end of their SIP and of an application's WebSocket: not shown, ${NO_CUTS}`)
  }
  for (const socket of sockets) socket.close()
  await step("the CRM's link", '401', () => status(link))
  await step('the wallboard, which is nobody who could log out', 'open', () => board.ended(500))
  site.run('machine-key', 'remove', 'wallboard')
  await step('the wallboard, its key removed', 'closed', () => board.ended(500))
  await step('the ticket', '401', () => status(`${recording}?ticket=${ticketed}`))
  for (const [name, token] of [
    ['the access token', user.access],
    ['the renewed one', renewed],
  ] as const) {
    await step(`${name} on the recording afterwards`, '401', () => status(recording, bearer(token)))
    await step(`${name} on the channel`, '401', () =>
      status(`${api}/sub/users-state?authorization=${token}`),
    )
    await step(`${name} on the profile`, '401', () => status(`${api}/profile`, bearer(token)))
  }
  await step('the refresh token', '401', async () =>
    String((await post('/auth/refresh', bearer(user.refresh))).status),
  )
  await step('user 900, who did not log out', '206', () =>
    status(recording, { ...bearer(admin.access), Range: 'bytes=0-9' }),
  )

  const pbx = `${url}${PBX}`
  const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
  const call = async (path: string, headers: Record<string, string>, body?: string) =>
    fetch(`${pbx}/${path}`, { method: 'POST', headers, ...(body !== undefined && { body }) })
  const cookieOf = (response: Response): string =>
    (response.headers.get('set-cookie') ?? '').split(';')[0] ?? ''
  let pbxToken = ''
  let cookie = ''
  await step('PBX: 900 logs in by form', '200 900', async () => {
    const body = new URLSearchParams({ login: '900', password: PASSWORD, rememberMe: 'true' })
    const response = await call('auth:login', form, body.toString())
    const { data } = (await response.json()) as { data: { accessToken: string; login: string } }
    pbxToken = data.accessToken
    cookie = cookieOf(response)
    return `${response.status} ${data.login}`
  })
  await step('PBX: the API behind it', '200', () =>
    status(`${pbx}/extensions`, { ...bearer(pbxToken), Cookie: cookie }),
  )
  const first = cookie
  await step('PBX: two refreshes at once end on one cookie', '200 200 true', async () => {
    const both = await Promise.all([
      call('auth:refresh', { Cookie: first }),
      call('auth:refresh', { Cookie: first }),
    ])
    const [one, two] = both.map(cookieOf)
    cookie = one ?? ''
    return `${both[0].status} ${both[1].status} ${one === two && one !== first}`
  })
  await step('PBX: logout', '200', async () =>
    String((await call('auth:logout', { ...bearer(pbxToken), Cookie: cookie })).status),
  )
  await step('PBX: the API afterwards', '401', () => status(`${pbx}/extensions`, bearer(pbxToken)))
  await step('PBX: the cookie afterwards', '401', async () =>
    String((await call('auth:refresh', { Cookie: cookie })).status),
  )

  const secrets = [
    pbxToken,
    cookie.split('=')[1] ?? '',
    user.access,
    user.refresh,
    renewed,
    admin.access,
    admin.refresh,
    operator.access,
    wallboard,
    crm,
    PASSWORD,
  ]
  const keys = readFileSync(join(site.folder, 'state', 'keys.json'), 'utf8')
  secrets.push(/"k": "([^"]+)"/.exec(keys)?.[1] ?? '')
  await step('tokens, passwords and keys in the logs', 'none', async () => {
    const logs = site.logs()
    const found = secrets.filter((secret) => secret === '' || logs.includes(secret))
    return found.length === 0 ? 'none' : `${found.length}`
  })
  say(failures === 0 ? 'The whole story holds.' : `${failures} steps failed.`)
  return failures === 0 ? 0 : 1
}
