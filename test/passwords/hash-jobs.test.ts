// A worker's side of the channel, on the main thread: every job is answered, faults included.
import { MessageChannel } from 'node:worker_threads'
import t from 'tap'
import { type HashJob, type HashReply, serveHashes } from '../../src/passwords/hash-jobs.ts'

interface Channel {
  replies: HashReply[]
  send(job: HashJob): void
  port: {
    on(event: 'message', listener: (job: HashJob) => void): void
    postMessage(reply: HashReply): void
  }
}

function createChannel(): Channel {
  const replies: HashReply[] = []
  let listener: ((job: HashJob) => void) | undefined
  return {
    replies,
    send: (job) => listener?.(job),
    port: {
      on: (_event, given) => void (listener = given),
      postMessage: (reply) => void replies.push(reply),
    },
  }
}

void t.test('hashes and verifies', async (t) => {
  const channel = createChannel()
  let lowered = 0
  serveHashes(channel.port, () => void lowered++)
  t.equal(lowered, 1)

  channel.send({ hash: 'secret', memory: 7168, passes: 1 })
  const [reply] = channel.replies.splice(0)
  const stored = reply !== undefined && 'answer' in reply ? String(reply.answer) : ''
  t.match(stored, /^\$argon2id\$v=19\$m=7168,t=1,p=1\$/)

  channel.send({ verify: stored, password: 'secret' })
  channel.send({ verify: stored, password: 'wrong' })
  t.same(channel.replies, [{ answer: true }, { answer: false }])
})

void t.test('a job that fails is answered with its fault', async (t) => {
  const channel = createChannel()
  serveHashes(channel.port, () => undefined)
  channel.send({ verify: 'not a hash', password: 'secret' })
  channel.send({ hash: '', memory: 7168, passes: 1 })
  channel.send({ hash: 'secret', memory: 1, passes: 1 })
  t.match(channel.replies, [{ fault: Error }, { fault: Error }, { fault: Error }])
})

void t.test('a worker that may not be niced says so, and works', async (t) => {
  const channel = createChannel()
  serveHashes(channel.port, () => {
    throw new Error('EPERM')
  })
  channel.send({ hash: '', memory: 7168, passes: 1 })
  t.match(channel.replies, [{ notNiced: Error }, { fault: Error }])
})

void t.test('without a channel there is nothing to do', async (t) => {
  serveHashes(null, () => t.fail('the main thread must keep its priority'))
})

void t.test('a real message port will do', async (t) => {
  const { port1, port2 } = new MessageChannel()
  serveHashes(port1, () => undefined)
  const reply = new Promise((resolve) => port2.once('message', resolve))
  port2.postMessage({ hash: '', memory: 7168, passes: 1 })
  t.match(await reply, { fault: Error })
  port2.close()
})
