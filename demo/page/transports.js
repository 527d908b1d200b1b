// How a live channel is heard: over EventSource or WebSocket, by a tab for itself or by all tabs of a browser
// together. Each takes what is asked for and tells `on`; each returns how to close it.

import { seconds } from './session.js'

export const TRANSPORTS = {
  EventSource(url, on) {
    const source = new EventSource(url)
    source.addEventListener('open', on.open)
    source.addEventListener('message', ({ data, lastEventId }) => on.message(data, lastEventId))
    source.addEventListener('error', () => {
      // Left alone it would come back by itself, with Last-Event-ID as a header; but to the same address,
      // where a ticket is used up, and for ever. We come back with ?last_event_id= instead.
      source.close()
      on.close()
    })
    return () => source.close()
  },
  WebSocket(url, on) {
    // With this subprotocol Nchan puts the message's id before it; a bare WebSocket could not resume.
    const socket = new WebSocket(url.replace(/^http/, 'ws'), 'ws+meta.nchan')
    socket.addEventListener('open', on.open)
    socket.addEventListener('message', ({ data }) => {
      const end = data.indexOf('\n\n')
      on.message(data.slice(end + 2), /^id: (.*)$/m.exec(data.slice(0, end))?.[1])
    })
    socket.addEventListener('close', ({ code }) => on.close(code))
    return () => socket.close()
  },
}

export const BEAT = 2 // seconds between the worker's signs of life: a port tells nobody that its other end crashed
const SILENCE = 3 * BEAT

/**
 * The worker holds the stream, so it outlives whichever tab opened it, closed or frozen; no tab has to be chosen, which
 * takes locks that a page over plain http has not. `heard` is the newest message and its id.
 */
const shareStream = ({ kind, url, key, heard }, on) => {
  const { port } = new SharedWorker(new URL('shared.js', import.meta.url), { type: 'module' })
  let lastSign = seconds()
  const leave = () => {
    clearInterval(timer)
    removeEventListener('pagehide', lose)
    port.postMessage({ leave: true })
    port.close()
  }
  const lose = () => {
    leave()
    on.close()
  }
  const timer = setInterval(() => {
    if (seconds() - lastSign > SILENCE) lose()
  }, BEAT * 1000)
  // A page that is gone back to finds a lost stream, and opens it again.
  addEventListener('pagehide', lose)
  port.addEventListener('message', ({ data: [what, ...words] }) => {
    lastSign = seconds()
    on[what]?.(...words)
  })
  port.start()
  port.postMessage({ kind, url, key, heard })
  return leave
}

export const openStream = (asked, on) =>
  'SharedWorker' in globalThis ? shareStream(asked, on) : TRANSPORTS[asked.kind](asked.url, on)
