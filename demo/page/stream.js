// One live channel, over EventSource or WebSocket: opened, lost, opened again where it left off. Neither tells a
// script why it was refused, so after a failure the ticket endpoint is asked, which does. It must never go on
// to a wider channel after a refusal, and never open a used ticket's address again.

import { API, nextWait, seconds } from './session.js'
import { openStream } from './transports.js'

// A server that closes with one of these means: show yourself again. Anything else may be the network.
const LOG_IN_AGAIN = new Set([1008, 4001, 4401, 4403])
const STEADY = 5 // seconds that a stream must have lived for the next loss to count as the first

/**
 * `show(state, detail)`: off, connecting, live, waiting (detail: seconds), offline (seconds), refused.
 * `proof()` says cookie or ticket at every attempt. What ends a session stops the stream from outside.
 */
export const createStream = ({ kind, session, proof, show, receive, note }) => {
  let attempt = 0 // whatever an older attempt still has to say is not listened to
  let channel
  let heard // the newest message, and its id
  let close
  let timer
  let wait
  let openedAt

  const halt = () => {
    attempt++
    clearTimeout(timer)
    timer = undefined
    close?.()
    close = undefined
  }

  const retry = (state, atLeast = 0) => {
    halt()
    wait = nextWait(wait)
    const pause = Math.max(wait, atLeast)
    show(state, pause)
    timer = setTimeout(() => connect(true), pause * 1000)
  }

  const connect = async (again) => {
    halt()
    const mine = attempt
    show('connecting')
    const query = new URLSearchParams()
    if (again || proof() === 'ticket') {
      const wanted = { action: 'subscribe', resource: channel }
      const { status, retryAfter, body } = await session.ask('POST', '/auth/ticket', wanted)
      if (mine !== attempt) return // stopped meanwhile: also when the session was over (401)
      if (status === 403) return show('refused')
      if (status !== 200) return retry('offline', retryAfter)
      // Good for one stream, once: it may stand in an address, and in a log.
      if (proof() === 'ticket') query.set('ticket', body.ticket)
    }
    if (heard?.[1]) query.set('last_event_id', heard[1])
    const url = `${location.origin}${API}/sub/${channel}${query.size > 0 ? `?${query}` : ''}`
    // What one user hears is not for the next one at this browser.
    const key = [kind, channel, session.state.user.username, proof()].join(' ')
    close = openStream(
      { kind, url, key, heard },
      {
        open() {
          if (mine !== attempt) return
          openedAt = seconds()
          show('live')
        },
        message(data, id) {
          if (mine !== attempt) return
          heard = [data, id || heard?.[1]]
          receive(data)
        },
        close(code) {
          if (mine !== attempt) return
          note(`closed${code === undefined ? '' : ` (${code})`}`)
          if (openedAt !== undefined && seconds() - openedAt > STEADY) wait = undefined
          openedAt = undefined
          if (LOG_IN_AGAIN.has(code)) void connect(true)
          else retry(navigator.onLine ? 'waiting' : 'offline')
        },
      },
    )
  }

  return {
    start(name) {
      // An id belongs to its channel: shown to another it would skip messages there.
      if (name !== channel) heard = undefined
      channel = name
      wait = undefined
      void connect(false)
    },
    stop(state = 'off') {
      halt()
      show(state)
    },
    /** The browser says that the network is gone: a dead connection would only be noticed minutes later. */
    lose() {
      if (close !== undefined) retry('offline')
    },
    /** The network is back: no need to wait for the timer. */
    hurry() {
      if (timer === undefined) return // nothing waits
      wait = undefined
      void connect(true)
    },
    /** Of somebody else now: their place in the channel is not ours. */
    forget() {
      heard = undefined
    },
  }
}
