// Constant load for a restart: as many clients as told ask again and again until stdin ends, and until there
// were as many requests as told. It must count every request, the failed ones with what failed.
// node load.ts URL TOKEN CLIENTS LEAST → {"answered":{"200":1234},"slowest":0.3}
import { Agent, get } from 'node:http'

const [url = '', token = '', clients = '1', least = '0'] = process.argv.slice(2)
const answered: Record<string, number> = {}
const seen = { count: 0, slowest: 0, ended: false }
process.stdin.resume().on('end', () => {
  seen.ended = true
})

const ask = (agent: Agent): Promise<string> => {
  const { promise, resolve } = Promise.withResolvers<string>()
  get(url, { agent, headers: { authorization: `Bearer ${token}` } }, (response) => {
    response.resume().on('end', () => {
      resolve(String(response.statusCode))
    })
  }).on('error', (error) => {
    resolve(error.message)
  })
  return promise
}

const client = async (): Promise<void> => {
  const agent = new Agent({ keepAlive: true })
  while (!seen.ended || seen.count < Number(least)) {
    seen.count++
    const began = performance.now() / 1000
    const answer = await ask(agent)
    answered[answer] = (answered[answer] ?? 0) + 1
    seen.slowest = Math.max(seen.slowest, performance.now() / 1000 - began)
  }
  agent.destroy()
}

await Promise.all(Array.from({ length: Number(clients) }, client))
console.log(JSON.stringify({ answered, slowest: seen.slowest }))
