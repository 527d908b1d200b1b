// A load generator as a process of its own: HTTP/1.1 over raw sockets, so that it costs little beside what it measures.
// It takes a job file and prints a report; it must never pipeline, since no client here does.

import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'

export interface Job {
  /** A unix socket's path, or a port on this machine. */
  to: string | number
  connections: number
  seconds: number
  /** Requests a second over all connections; without, each sends the next as soon as it has its answer. */
  rate?: number
  /** Whole requests, of which `@@` stands for the credential. */
  template: string
  /** Taken in turn, one at a time. */
  credentials: string[]
  /** Finds the next credential among the header lines of an answer: a rotated token. */
  follow?: string
}

export interface Report {
  requests: number
  seconds: number
  /** How many of each status; `cut`: the connection ended instead. */
  statuses: Record<string, number>
  /** Seconds. */
  p50: number
  p99: number
  max: number
  /** Where they rotate: those to go on with. */
  credentials?: string[]
}

interface Slot {
  credential: string
  busy: boolean
}

const generate = async (job: Job): Promise<Report> => {
  const { to, connections, seconds, rate, template, follow } = job
  const slots = job.credentials.map((credential): Slot => ({ credential, busy: false }))
  const [before = '', after = ''] = template.split('@@')
  const next = follow === undefined ? undefined : new RegExp(follow)
  const took: number[] = []
  const statuses: Record<string, number> = {}
  const sockets = new Set<Socket>()
  const idle: ((slot: Slot, due: number) => void)[] = []
  const waiting: number[] = []
  let [at, running, underWay] = [0, true, 0]
  const drained = Promise.withResolvers<void>()

  const take = (): Slot => {
    for (;;) {
      const slot = slots[at++ % slots.length]
      if (slot && !slot.busy) {
        slot.busy = true
        return slot
      }
    }
  }
  const count = (status: string): void => {
    statuses[status] = (statuses[status] ?? 0) + 1
  }

  const open = (): void => {
    const socket = typeof to === 'string' ? connect(to) : connect(to, '127.0.0.1')
    sockets.add(socket)
    socket.setNoDelay(true).setEncoding('latin1')
    let text = ''
    let current: { slot: Slot; due: number } | undefined
    const send = (slot: Slot, due: number): void => {
      underWay++
      current = { slot, due }
      socket.write(before + slot.credential + after)
    }
    const proceed = (): void => {
      if (!running) return
      if (rate === undefined) send(take(), performance.now())
      else {
        const due = waiting.shift()
        if (due === undefined) idle.push(send)
        else send(take(), due)
      }
    }
    const finish = (status: string): void => {
      if (!current) return
      took.push(performance.now() - current.due)
      count(status)
      current.slot.busy = false
      current = undefined
      underWay--
      if (!running && underWay === 0) drained.resolve()
    }
    socket.on('connect', proceed)
    let [head, left] = ['', 0]
    socket.on('data', (more: string) => {
      if (head === '') {
        text += more
        const end = text.indexOf('\r\n\r\n')
        if (end < 0) return
        head = text.slice(0, end + 2)
        left = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0) - (text.length - end - 4)
      } else left -= more.length
      if (left > 0) return
      const found = next?.exec(head)?.[1]
      if (found !== undefined && current) current.slot.credential = decodeURIComponent(found)
      const status = head.slice(9, 12)
      const closes = /\r\nconnection: *close/i.test(head)
      text = ''
      head = ''
      finish(status)
      if (closes) socket.destroy()
      else proceed()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      sockets.delete(socket)
      const own = idle.indexOf(send)
      if (own >= 0) idle.splice(own, 1)
      const cut = current !== undefined
      finish('cut')
      // Not at once: where nobody listens this would only spin.
      if (running) setTimeout(open, cut ? 50 : 1)
    })
  }

  const startedAt = performance.now()
  for (let index = 0; index < connections; index++) open()
  let due = 0
  const pace = setInterval(() => {
    if (rate === undefined) return
    const target = ((performance.now() - startedAt) / 1000) * rate
    for (; due < target; due++) {
      const send = idle.shift()
      // Nobody is free: it waits, and its waiting counts.
      if (send) send(take(), performance.now())
      else waiting.push(performance.now())
    }
  }, 1)
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  running = false
  clearInterval(pace)
  const elapsed = (performance.now() - startedAt) / 1000
  const requests = took.length
  if (underWay > 0) {
    await Promise.race([drained.promise, new Promise((resolve) => setTimeout(resolve, 20_000))])
  }
  for (const socket of sockets) socket.destroy()
  const sorted = took.sort((one, two) => one - two)
  const quantile = (part: number): number =>
    (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0) / 1000
  return {
    requests,
    seconds: elapsed,
    statuses,
    p50: quantile(0.5),
    p99: quantile(0.99),
    max: quantile(1),
    ...(next && { credentials: slots.map(({ credential }) => credential) }),
  }
}

const [file = ''] = process.argv.slice(2)
const report = await generate(JSON.parse(readFileSync(file, 'utf8')) as Job)
process.stdout.write(JSON.stringify(report))
process.exit(0)
