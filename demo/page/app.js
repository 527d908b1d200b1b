// The page: what session.js, stream.js and player.js say, put before people, and their keys and clicks handed
// back. Text only ever goes in as text (textContent), since names and messages come from elsewhere.

import { readBack, wasInVain } from './back.js'
import { createPlayer } from './player.js'
import { createSession, seconds } from './session.js'
import { createStream } from './stream.js'
import { TRANSPORTS } from './transports.js'

const LIST_EVERY = 5 // seconds
const NOTES = 60 // lines kept

const at = (id) => document.getElementById(id)
const clock = (unix, options = { timeStyle: 'medium' }) =>
  new Intl.DateTimeFormat(undefined, options).format(unix * 1000)
const put = (element, text) => {
  // Written only where it differs: a screen reader would read the same words again.
  if (element.textContent !== text) element.textContent = text
}
const make = (tag, className, text = '') => {
  const element = document.createElement(tag)
  if (className) element.className = className
  element.textContent = text
  return element
}

// ---- what happened

const note = (text) => {
  const line = make('li', '', text)
  line.prepend(make('time', '', clock(seconds())))
  at('notes').prepend(line)
  while (at('notes').children.length > NOTES) at('notes').lastElementChild.remove()
}

// ---- the session

const session = createSession({ changed: () => render(), note })
const proof = () => (session.hasCookie() && at('by-cookie').checked ? 'cookie' : 'ticket')

const WHY = {
  expired: ['Your session has expired.', 'Log in again to go on.'],
  ended: ['Your session was ended.', 'You did it, here or elsewhere, or the operator.'],
}

// ---- live

const STATES = {
  off: () => 'Off',
  connecting: () => 'Connecting…',
  live: () => 'Live',
  waiting: (wait) => `Lost, again in ${wait} s`,
  offline: (wait) => `Offline, again in ${wait} s`,
  refused: () => 'Refused: no right to this channel',
  expired: () => 'Closed: the session has expired',
  ended: () => 'Closed: the session was ended',
}

const createCard = (kind) => {
  const card = at(kind)
  const part = (name) => card.querySelector(`[data-part="${name}"]`)
  const rows = new Map()
  let count = 0

  /** "Yet" only while something may still come. */
  const sayNothing = () => {
    put(part('last'), card.dataset.running === 'true' ? 'Nothing heard yet' : '')
  }
  const clear = () => {
    rows.clear()
    count = 0
    part('rows').replaceChildren()
    sayNothing()
  }
  const show = (state, detail) => {
    card.dataset.state = state
    put(part('state'), STATES[state](detail))
    const running = ['connecting', 'live', 'waiting', 'offline'].includes(state)
    put(part('toggle'), running ? 'Stop' : 'Start')
    card.dataset.running = String(running)
    if (count === 0) sayNothing()
    if (state === 'connecting') return
    note(`${kind}: ${STATES[state](detail)}`)
    listSoon()
  }
  const receive = (data) => {
    count++
    put(part('last'), `${count} ${count === 1 ? 'message' : 'messages'}, last ${clock(seconds())}`)
    let states
    try {
      states = JSON.parse(data).states
    } catch {
      // Producers may publish anything; what is no state has no place in the table.
    }
    for (const [extension, { state, name }] of Object.entries(states ?? {})) {
      let row = rows.get(extension)
      if (!row) {
        const header = make('th', '', extension)
        header.scope = 'row'
        row = make('tr')
        row.append(header, make('td'), make('td', 'state'))
        rows.set(extension, row)
        part('rows').append(row)
      }
      put(row.cells[1], String(name ?? ''))
      put(row.cells[2], String(state))
      row.cells[2].dataset.is = String(state)
    }
  }
  const stream = createStream({
    kind,
    session,
    proof,
    show,
    receive,
    note: (text) => note(`${kind}: ${text}`),
  })
  part('toggle').addEventListener('click', () => {
    if (card.dataset.running === 'true') stream.stop()
    else stream.start(at('channel').value)
  })
  return { stream, clear }
}

const cards = Object.keys(TRANSPORTS).map(createCard)
const startStreams = () => {
  for (const { stream } of cards) stream.start(at('channel').value)
}

at('channel').addEventListener('change', () => {
  for (const { clear } of cards) clear()
  startStreams()
})
at('proof').addEventListener('change', () => {
  note(`Streams and recordings go by ${proof()} now`)
  startStreams()
})
addEventListener('offline', () => {
  for (const { stream } of cards) stream.lose()
})
addEventListener('online', () => {
  for (const { stream } of cards) stream.hurry()
})

// ---- a recording

const SOUND = {
  empty: 'Choose a recording.',
  loading: 'Opening…',
  ready: 'Ready. Seek as you like.',
  refused: 'Refused: no right to this recording.',
  missing: 'There is no such recording.',
  offline: 'The recording cannot be reached right now. Choose it again to try.',
}
const player = createPlayer({
  audio: at('audio'),
  session,
  proof,
  note,
  show(state) {
    at('recording').dataset.state = state
    put(at('sound'), SOUND[state])
  },
})
const recordings = [...document.querySelectorAll('[data-recording]')]
const press = (chosen) => {
  for (const button of recordings) button.setAttribute('aria-pressed', String(button === chosen))
}
for (const button of recordings) {
  button.addEventListener('click', () => {
    press(button)
    player.open(button.dataset.recording)
  })
}

// ---- the user's sessions

/** Enough to tell two devices apart; the whole is in the title. */
const clientOf = (agent) => {
  const browser = [
    ['Edg/', 'Edge'],
    ['Firefox/', 'Firefox'],
    ['Chrome/', 'Chrome'],
    ['Safari/', 'Safari'],
  ].find(([mark]) => agent.includes(mark))
  const system = /Android|iPhone|iPad|Windows|Mac OS X|Linux/.exec(agent)
  if (!browser) return agent.split(/[/ ]/)[0] || 'Unknown client'
  return system ? `${browser[1]} on ${system[0]}` : browser[1]
}

const items = new Map() // kept from one look to the next, so that the focus stays where it is
const createItem = (id) => {
  const item = make('li')
  const text = make('div')
  const button = make('button', 'quiet', 'End')
  button.type = 'button'
  text.append(make('p', 'who'), make('p', 'since'), make('ul', 'listening'))
  item.append(text, button)
  button.addEventListener('click', async () => {
    button.disabled = true
    const { status } = await session.ask('DELETE', `/auth/sessions/${id}`)
    button.disabled = false
    // 404: it has ended by itself meanwhile, which is what was wanted.
    if (status === 200 || status === 404) note('Ended a session')
    else if (status !== 401) note('The session could not be ended. Try again.')
    at('sessions-title').focus()
    await list()
  })
  return item
}

const fill = (item, { current, agent, address, created_at: created, subscriptions }) => {
  const [who, since, listening] = item.firstElementChild.children
  put(who, `${clientOf(agent)}, ${address}`)
  who.title = agent
  item.classList.toggle('current', current)
  const began = clock(created, { dateStyle: 'medium', timeStyle: 'short' })
  put(since, current ? `This session, since ${began}` : `Since ${began}`)
  const lines = subscriptions.map(
    ({ resource, since, until }) =>
      `Listens to ${resource} since ${clock(since)}, until ${clock(until)}`,
  )
  if (subscriptions.length === 0) lines.push('Listens to nothing')
  if (lines.join('\n') !== item.dataset.lines) {
    item.dataset.lines = lines.join('\n')
    listening.replaceChildren(...lines.map((line) => make('li', '', line)))
  }
  item.lastElementChild.setAttribute(
    'aria-label',
    current ? 'End this session' : `End the session of ${clientOf(agent)} since ${began}`,
  )
}

let listTimer
/** Two streams change together: one look shows both. */
const listSoon = () => {
  clearTimeout(listTimer)
  listTimer = setTimeout(list, 300)
}
const list = async () => {
  clearTimeout(listTimer)
  if (session.state.phase !== 'in') return
  const { status, body } = await session.ask('GET', '/auth/sessions')
  if (session.state.phase !== 'in') return
  clearTimeout(listTimer)
  listTimer = setTimeout(list, LIST_EVERY * 1000)
  if (status !== 200) return
  const sorted = body.sessions.toSorted(
    (a, b) => Number(b.current) - Number(a.current) || b.created_at - a.created_at,
  )
  for (const [id, item] of items) {
    if (sorted.some((one) => one.id === id)) continue
    item.remove()
    items.delete(id)
  }
  for (const one of sorted) {
    const item = items.get(one.id) ?? createItem(one.id)
    if (!items.has(one.id)) {
      items.set(one.id, item)
      at('sessions').append(item)
    }
    fill(item, one)
    for (const { until } of one.current ? one.subscriptions : []) session.learnUntil(until)
  }
}

// ---- who was sent here

const back = readBack(location)
let inVain = wasInVain(document, location)
/** True when the page is left. */
const goBack = () => {
  if (back === undefined) return false
  put(at('back-title'), 'You are logged in.')
  put(at('back-text'), 'What you came for takes no login of this page:')
  if (!inVain) location.replace(back)
  return !inVain
}
if (back !== undefined) {
  at('back').hidden = false
  at('back-link').href = back
  put(at('back-link'), new URL(back).pathname)
}
// The demo's own words: elsewhere nobody has these users.
at('hint').hidden = location.pathname !== '/' || back !== undefined

// ---- who is in, on the whole page

let shown = { phase: undefined, user: undefined }

const leave = (why) => {
  for (const { stream, clear } of cards) {
    stream.stop(why ?? 'off')
    stream.forget()
    clear()
  }
  player.close()
  press()
  items.clear()
  at('sessions').replaceChildren()
}

const render = () => {
  const { phase, why, user, until, away } = session.state
  document.body.dataset.phase = phase
  document.body.dataset.why = why ?? ''
  at('away').hidden = !away
  if (phase === 'in') {
    put(at('user'), `${user.username} (${user.role})`)
    put(at('until'), until === undefined ? '' : `Token until ${clock(until)}`)
  }
  if (phase === 'starting') return
  if (shown.phase === phase && shown.user === user?.username) return
  const wasIn = shown.phase === 'in'
  shown = { phase, user: user?.username }
  const [title, text] = WHY[why] ?? ['', '']
  put(at('why-title'), title)
  put(at('why-text'), text)
  at('why').hidden = why === undefined
  if (wasIn) leave(why)
  if (phase === 'out') inVain = false // a login is worth a try
  if (phase === 'in' && !goBack()) {
    startStreams()
    void list()
  }
}

const logIn = async () => {
  const { username, password } = Object.fromEntries(new FormData(at('login')))
  const button = at('login').querySelector('button')
  button.disabled = true
  put(button, 'Logging in…')
  const problem = await session.login(username, password)
  button.disabled = false
  put(button, 'Log in')
  at('password').value = ''
  put(at('problem'), problem ?? '')
  at('problem').hidden = problem === undefined
  for (const field of ['username', 'password']) {
    at(field).setAttribute('aria-invalid', String(problem !== undefined))
  }
  if (problem === undefined) at('live-title').focus()
  else at('password').focus()
}
at('login').addEventListener('submit', (event) => {
  event.preventDefault()
  void logIn()
})

const logOut = async (everywhere) => {
  if (await session.logout(everywhere)) at('username').focus()
  else note('Could not log out: no answer from the server. Try again.')
}
at('logout').addEventListener('click', () => void logOut(false))
at('logout-everywhere').addEventListener('click', () => void logOut(true))

session.onOtherTab(() => {
  leave()
  shown = { phase: undefined, user: undefined }
  void session.start()
})
void session.start()
