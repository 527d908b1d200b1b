// The least that a Node program behind auth_request can be: node:http that answers 204 to everything. What a check
// costs beyond it is ours. Arguments: ports and socket paths to listen on; after `--answers` those that answer with
// the header lines of a check, since what nginx hands on must be written by whoever decides.

import { createServer, type ServerResponse } from 'node:http'

const LINES = Object.entries({
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
  'X-Auth-User': 'u0',
  'X-Auth-Role': 'user',
  'X-Auth-Session': '3f2b8c1e5d7a4f609b8c7d6e5f4a3b2c',
  'X-Auth-Expires': '1790000000',
}).flat()
const allow = (_asked: unknown, response: ServerResponse): void => {
  response.writeHead(204).end()
}
const answer = (_asked: unknown, response: ServerResponse): void => {
  response.writeHead(204, [...LINES]).end()
}
let handler = allow
for (const address of process.argv.slice(2)) {
  if (address === '--answers') {
    handler = answer
    continue
  }
  const server = createServer({ keepAliveTimeout: 75_000 }, handler)
  if (/^\d+$/.test(address)) server.listen(Number(address), '127.0.0.1')
  else server.listen(address)
}
