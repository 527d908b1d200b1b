// What a request says of its client. Without a server.

import t from 'tap'

import { readHeaders } from '../../src/http/headers.ts'
import { readAddress, readAgent } from '../../src/http/request.ts'

void t.test('the address is nginx’s word, whole, or unknown', (t) => {
  for (const address of ['192.0.2.1', '::1', '2001:db8::9', '::ffff:192.0.2.1']) {
    t.equal(readAddress(readHeaders(['X-Real-IP', address])), address)
  }
  const rows = [',', 'unknown', '[::1', '[::1]', '127.0.0.1, x', "'", '', '1.2.3', '010.0.0.1', ' ']
  for (const address of rows) {
    t.equal(readAddress(readHeaders(['X-Real-IP', address])), 'unknown', address)
  }
  t.equal(readAddress(readHeaders(['X-Real-IP', '::1', 'X-Real-IP', '::1'])), 'unknown')
  t.equal(
    readAddress(readHeaders(['X-Forwarded-For', '192.0.2.1', 'Forwarded', 'for=192.0.2.1'])),
    'unknown',
  )
  t.end()
})

void t.test('the agent is cut and printable', (t) => {
  t.equal(readAgent(readHeaders([])), '')
  t.equal(readAgent(readHeaders(['User-Agent', 'Soft/1.0 (x)'])), 'Soft/1.0 (x)')
  t.equal(readAgent(readHeaders(['User-Agent', 'a\tb\u001b[2J\u00fc'])), 'a?b?[2J?')
  t.equal(readAgent(readHeaders(['User-Agent', 'x'.repeat(5000)])).length, 256)
  t.end()
})
