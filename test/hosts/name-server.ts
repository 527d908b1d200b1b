// A DNS server as a program of its own, on 127.0.0.1 of whatever namespace it is in. It does what the last line of
// its input says: `silent`, `fails` (SERVFAIL), `unknown` (NXDOMAIN), or an IPv4 address. It prints the time of
// each question for an address.

import { createSocket } from 'node:dgram'
import { createInterface } from 'node:readline'

const [RESPONSE, SERVFAIL, NXDOMAIN, TYPE_A, SECONDS] = [0x8180, 2, 3, 1, 0]
let answer = 'unknown'
createInterface({ input: process.stdin }).on('line', (line) => (answer = line))

const socket = createSocket('udp4')
socket.on('message', (query, { port, address }) => {
  let end = 12
  while (query[end]) end += Number(query[end]) + 1
  const question = query.subarray(12, end + 5)
  const isAddress = query.readUInt16BE(end + 1) === TYPE_A
  if (isAddress) console.log(performance.now())
  if (answer === 'silent') return
  const code = { fails: SERVFAIL, unknown: NXDOMAIN }[answer] ?? 0
  const found = code === 0 && isAddress
  const head = Buffer.alloc(12)
  query.copy(head, 0, 0, 2)
  head.writeUInt16BE(RESPONSE | code, 2)
  head.writeUInt16BE(1, 4)
  head.writeUInt16BE(found ? 1 : 0, 6)
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, SECONDS, 0, 4])
  const octets = Buffer.from(answer.split('.').map(Number))
  socket.send(
    Buffer.concat(found ? [head, question, record, octets] : [head, question]),
    port,
    address,
  )
})
socket.bind(53, '127.0.0.1', () => console.log('ready'))
