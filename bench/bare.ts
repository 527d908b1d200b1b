// The least that a Node program behind auth_request can be: node:http that answers 204 to everything. What a check
// costs beyond it is ours. Arguments: ports and socket paths to listen on.

import { createServer, type ServerResponse } from 'node:http'

const allow = (_asked: unknown, response: ServerResponse): void => {
  response.writeHead(204).end()
}
for (const address of process.argv.slice(2)) {
  const server = createServer({ keepAliveTimeout: 75_000 }, allow)
  if (/^\d+$/.test(address)) server.listen(Number(address), '127.0.0.1')
  else server.listen(address)
}
