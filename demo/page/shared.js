// The streams of all tabs of a browser, in a worker that they share. Over HTTP/1.1 a browser has six connections to a
// host: with an event stream each, the seventh tab would not even load, and nobody could log out.

import { BEAT, TRANSPORTS } from './transports.js'

const streams = new Map() // by who listens to what, how, and by which proof

const open = ({ kind, url, key, heard }) => {
  // `heard`: the channel's newest message. A stream that goes on behind it brings it to nobody, and whoever comes
  // later has yet to hear it.
  const stream = { ports: new Set(), isOpen: false, heard }
  const tell = (...words) => {
    for (const port of stream.ports) port.postMessage(words)
  }
  const timer = setInterval(tell, BEAT * 1000, 'alive')
  const close = TRANSPORTS[kind](url, {
    open() {
      stream.isOpen = true
      tell('open')
    },
    message(data, id) {
      stream.heard = [data, id]
      tell('message', data, id)
    },
    close(code) {
      // Each tab comes back by itself, and the first one opens the stream for all.
      stream.end()
      tell('close', code)
    },
  })
  stream.end = () => {
    clearInterval(timer)
    close()
    if (streams.get(key) === stream) streams.delete(key)
  }
  streams.set(key, stream)
  return stream
}

const join = (port, asked) => {
  const stream = streams.get(asked.key) ?? open(asked)
  stream.ports.add(port)
  if (stream.isOpen) port.postMessage(['open'])
  if (stream.heard && stream.heard[1] !== asked.heard?.[1]) {
    port.postMessage(['message', ...stream.heard])
  }
  return stream
}

addEventListener('connect', ({ ports: [port] }) => {
  let stream
  port.addEventListener('message', ({ data }) => {
    if (!data.leave) {
      stream = join(port, data)
      return
    }
    // A tab that crashed cannot say so: what it alone listened to stays until it ends, or the last tab is closed.
    stream.ports.delete(port)
    if (stream.ports.size === 0) stream.end()
  })
  port.start()
})
