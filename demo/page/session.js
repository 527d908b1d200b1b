// Who is signed in here: log in, stay in, leave. The cookie of `"cookie": true` carries the access token, so
// no script ever needs it, and a reload finds it again. This file must never put a token where it shows or
// outlives the tab: not into storage, an address or the console.

export const API = '/pbxcore/api/module-softphone-backend/v1'

const FIRST_WAIT = 0.5 // seconds; doubled with each failure
const LONGEST_WAIT = 30
// Spread over 15 s, so that a thousand clients that logged in together do not renew together.
const leadOf = (life) => Math.min(15 + 15 * Math.random(), life / 2)

export const seconds = () => Date.now() / 1000
export const nextWait = (wait) =>
  wait === undefined ? FIRST_WAIT : Math.min(wait * 2, LONGEST_WAIT)

/**
 * `changed` is called whenever `phase`, `user`, `until` or `away` is another; `note` takes one line for people.
 * phase: starting, in, or out; `why` it is out: expired, ended, or nothing (nobody was in, or they left).
 */
export const createSession = ({ changed, note }) => {
  const state = {
    phase: 'starting',
    why: undefined,
    user: undefined,
    until: undefined,
    away: false,
  }
  // In memory alone: gone with the tab. After a reload there is none, and the cookie lasts until it ends.
  let refreshToken
  let accessToken
  let timer
  let renewing
  let login = 0 // an answer that comes after another login, or after the end, is not about this one
  // Tabs of one browser share the cookie, so they have to agree on who is in. Only the word goes around.
  const tabs = new BroadcastChannel('postern')

  const set = (part) => {
    Object.assign(state, part)
    changed(state)
  }

  /** Status 0: nobody answered. */
  const send = async (method, path, body, bearer) => {
    const headers = {
      ...(bearer !== undefined && { Authorization: `Bearer ${bearer}` }),
      ...(body !== undefined && { 'Content-Type': 'application/json' }),
    }
    let answer = { status: 0, retryAfter: 0, body: {} }
    try {
      const response = await fetch(API + path, {
        method,
        headers,
        ...(body !== undefined && { body: JSON.stringify(body) }),
        cache: 'no-store',
        redirect: 'error',
        signal: AbortSignal.timeout(25_000),
      })
      const retryAfter = Number(response.headers.get('Retry-After')) || 0
      answer = {
        status: response.status,
        retryAfter,
        body: await response.json().catch(() => ({})),
      }
    } catch {
      // Offline, or the connection broke: the same for whoever asked.
    }
    const away = answer.status === 0 || answer.status >= 500
    if (away !== state.away) set({ away })
    return answer
  }

  const plan = (life) => {
    clearTimeout(timer)
    if (refreshToken !== undefined) {
      timer = setTimeout(renew, (life - leadOf(life)) * 1000)
    } else {
      // Another tab may have renewed the cookie meanwhile: ask, do not assume.
      timer = setTimeout(() => ask('GET', '/profile').then(lookAgain), (life + 1) * 1000)
    }
  }
  const lookAgain = ({ status }) => {
    if (status === 200 && refreshToken === undefined) plan(30)
  }

  const forget = () => {
    login++
    clearTimeout(timer)
    refreshToken = undefined
    accessToken = undefined
    renewing = undefined
  }

  const over = (why) => {
    if (state.phase !== 'in') return
    forget()
    note(why === 'expired' ? 'The session has expired' : 'The session was ended')
    set({ phase: 'out', why, user: undefined, until: undefined })
  }

  /** True when the session goes on. However many requests find the token old, one refresh is made. */
  const renew = () => {
    renewing ??= refresh().finally(() => {
      renewing = undefined
    })
    return renewing
  }
  const refresh = async () => {
    const mine = login
    const { status, body } = await send('POST', '/auth/refresh', undefined, refreshToken)
    if (mine !== login) return false
    if (status === 200) {
      // The daemon renews a cookie that is there. One that has ended (the computer slept) it does not bring
      // back: then we show the new token ourselves, and streams and recordings go by ticket.
      const late = seconds() >= state.until
      if (late || accessToken !== undefined) accessToken = body.access_token
      refreshToken = body.refresh_token ?? refreshToken // a new one where rotation is on
      note(late ? 'Renewed late: from now on by ticket' : 'Renewed')
      set({ until: seconds() + body.expires_in })
      plan(body.expires_in)
      return true
    }
    if (status === 401 || status === 403) over('ended')
    else timer = setTimeout(renew, 5000)
    return false
  }

  /** A request to the API. 401 ends in one refresh and one more try, or in the end of the session. */
  const ask = async (method, path, body) => {
    const mine = login
    const answer = await send(method, path, body, accessToken)
    if (answer.status !== 401 || mine !== login || state.phase !== 'in') return answer
    if (refreshToken === undefined) {
      // Two seconds: a token's life is counted in whole ones, there and here.
      over(state.until !== undefined && seconds() > state.until - 2 ? 'expired' : 'ended')
      return answer
    }
    if (!(await renew())) return answer
    const second = await send(method, path, body, accessToken)
    if (second.status === 401 && mine === login) over('ended')
    return second
  }

  /** After a load: the cookie, which no script can see, may still know who we are. */
  const start = async () => {
    forget()
    const mine = login
    set({ phase: 'starting', why: undefined, until: undefined })
    for (let wait = nextWait(); ; wait = nextWait(wait)) {
      const { status, body } = await send('GET', '/profile')
      if (mine !== login) return
      if (status === 200) return set({ phase: 'in', user: body.user })
      if (status !== 0 && status < 500) return set({ phase: 'out', user: undefined })
      await new Promise((resolve) => setTimeout(resolve, wait * 1000))
    }
  }

  return {
    state,
    start,
    ask,
    /** Whether streams and recordings can go by the cookie. */
    hasCookie: () => accessToken === undefined,
    /** Undefined, or why not: a sentence for people. */
    async login(username, password) {
      forget()
      const mine = login
      const credentials = { username, password, cookie: true }
      const { status, retryAfter, body } = await send('POST', '/auth/login', credentials)
      if (mine !== login) return undefined
      if (status === 200) {
        refreshToken = body.refresh_token
        const profile = await send('GET', '/profile')
        if (mine !== login) return undefined
        if (profile.status !== 200) {
          // Nobody would end a session that nobody uses.
          void send('POST', '/auth/logout', undefined, refreshToken)
          forget()
          return 'Logged in, but the cookie did not come back. Are cookies off?'
        }
        note(`Logged in as ${profile.body.user.username}`)
        tabs.postMessage('login')
        set({
          phase: 'in',
          why: undefined,
          user: profile.body.user,
          until: seconds() + body.expires_in,
        })
        plan(body.expires_in)
        return undefined
      }
      if (status === 401) return 'That name and password do not belong together.'
      if (status === 429) return `Too many tries. Try again in ${retryAfter || 1} s.`
      if (status === 0) return 'No answer from the server. Is it running?'
      if (status >= 500) return 'The server cannot decide right now. Try again in a moment.'
      return body.error ?? 'That was not accepted.'
    },
    /** Says so to the server before anything here is forgotten: only it can end the streams. */
    async logout(everywhere) {
      const { status } = await send(
        'POST',
        `/auth/logout${everywhere ? '?all=true' : ''}`,
        undefined,
        accessToken,
      )
      if (status !== 200 && status !== 401) return false
      forget()
      note(everywhere ? 'Logged out everywhere' : 'Logged out')
      set({ phase: 'out', why: undefined, user: undefined, until: undefined })
      tabs.postMessage('logout')
      return true
    },
    /** Until when the token lives, where the server mentioned it: after a reload nothing here knows. */
    learnUntil(until) {
      if (refreshToken !== undefined || until === state.until || until <= seconds()) return
      set({ until })
      plan(until - seconds())
    },
    /** Another tab's word: who is in may be somebody else now. */
    onOtherTab(react) {
      tabs.addEventListener('message', react)
    },
  }
}
