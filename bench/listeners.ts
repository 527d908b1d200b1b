// Many clients that listen by EventSource, as one process: raw sockets, since it must not be what is measured. It
// prints how many streams are open, and how many have ended, with the moment of each change.

import { readFileSync } from 'node:fs'
import { connect } from 'node:net'

export interface ListenJob {
  port: number
  /** Requests whole, one a stream. */
  requests: string[]
}

export interface Seen {
  open: number
  ended: number
  refused: number
  /** Milliseconds since 1970, with a fraction. */
  at: number
}

const AT_ONCE = 64

const listen = (job: ListenJob): void => {
  const seen: Seen = { open: 0, ended: 0, refused: 0, at: 0 }
  let next = 0
  let told = ''
  const now = (): number => performance.timeOrigin + performance.now()
  const open = (): void => {
    const request = job.requests[next++]
    if (request === undefined) return
    const socket = connect(job.port, '127.0.0.1')
    let state: 'asked' | 'open' | 'refused' = 'asked'
    let text = ''
    socket.setEncoding('latin1').on('connect', () => socket.write(request))
    socket.on('data', (more: string) => {
      if (state !== 'asked') return
      text += more
      if (!text.includes('\r\n\r\n')) return
      state = text.startsWith('HTTP/1.1 200') ? 'open' : 'refused'
      if (state === 'open') seen.open++
      else seen.refused++
      text = ''
      seen.at = now()
      open()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      if (state === 'asked') {
        seen.refused++
        open()
      } else if (state === 'open') seen.ended++
      seen.at = now()
    })
  }
  for (let index = 0; index < AT_ONCE; index++) open()
  setInterval(() => {
    const line = JSON.stringify(seen)
    if (line !== told) process.stdout.write(`${line}\n`)
    told = line
  }, 20)
}

listen(JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as ListenJob)
