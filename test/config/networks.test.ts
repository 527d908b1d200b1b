import t from 'tap'
import { createNetworks, findNetworkProblem } from '../../src/config/networks.ts'

void t.test('an address lies in a network, however it is written', (t) => {
  const holds = createNetworks(['192.0.2.0/24', '198.51.100.7', '2001:db8::/32', '::1'])
  for (const address of [
    '192.0.2.0',
    '192.0.2.255',
    '::ffff:192.0.2.9',
    '198.51.100.7',
    '2001:db8:1::2',
    '2001:DB8::',
    '::1',
  ]) {
    t.ok(holds(address), address)
    t.ok(holds(address), `${address} again`)
  }
  for (const address of [
    '192.0.3.0',
    '198.51.100.8',
    '2001:db9::1',
    '::2',
    '::ffff:192.0.3.1',
    'unknown',
    '',
    '192.0.2',
    'fe80::1%eth0',
  ]) {
    t.notOk(holds(address), address)
  }
  t.notOk(
    createNetworks(['192.0.2.0/33', 'x'])('192.0.2.1'),
    'what does not parse has no addresses',
  )
  t.notOk(createNetworks([])('192.0.2.1'))
  t.notOk(createNetworks(['192.0.2.0/24'])(''), 'nor does who has no address lie in one')
  t.end()
})

void t.test('what is no network is told', (t) => {
  for (const good of ['0.0.0.0/0', '192.0.2.1', '192.0.2.1/32', '::/0', '2001:db8::1/128']) {
    t.equal(findNetworkProblem(good), undefined, good)
  }
  for (const bad of [
    '',
    '/',
    'x',
    '192.0.2.0/',
    '192.0.2.0/33',
    '192.0.2.0/-1',
    '192.0.2.0/1.0',
    '::/129',
    '192.0.2/24',
    'localhost',
    '192.0.2.0/24/1',
  ]) {
    t.match(findNetworkProblem(bad), /is no network: write 192/, bad)
  }
  t.end()
})
