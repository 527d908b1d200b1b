import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { systemClock } from '../../src/clock.ts'
import type { Config } from '../../src/config/config.ts'
import { keepCdr, openCalls } from '../../src/daemon/open-calls.ts'
import { insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

const CALLS: Config['calls'] = {
  sources: [],
  namePatterns: ['{party}.wav'],
  cdrFile: '/nowhere/cdr.db',
  cdrTable: 'cdr_general',
  cdrColumns: new Map(),
  cdrPrefixes: [],
}

const until = async (holds: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries > 500) throw new Error('it never came')
    await pause(20)
  }
}

const never = (): never => t.fail('not named') as never

void t.test('the sources that are named, and no other', (t) => {
  const recording = 'external-201-15551230000-20261128-102000-1795861200.40.wav'
  const none = openCalls(CALLS, never)
  t.equal(none.isParty(recording, '201'), undefined)
  t.equal(none.isParty('201.wav', '201'), undefined)
  const names = openCalls({ ...CALLS, sources: ['names'] }, never)
  t.equal(names.isParty(recording, '201'), true)
  t.same(names.explain('201.wav'), [{ source: 'names', parties: ['201'] }])
  t.end()
})

void t.test('a CDR is opened once, by the first that names it', async (t) => {
  const events = { onRead() {}, onProblem() {}, onDoubt() {} }
  const cdr = keepCdr(events, systemClock)
  await cdr.close()
  t.equal(cdr.state(), undefined)
  const calls: Config['calls'] = {
    ...CALLS,
    sources: ['cdr'],
    cdrFile: join(t.testdir(), 'cdr.db'),
  }
  t.equal(openCalls(calls, cdr.open).isParty('a.wav', '201'), undefined)
  t.equal(cdr.open(CALLS), cdr.open(calls))
  t.match(cdr.state(), { recordings: undefined })
  await cdr.close()
})

void t.test(
  'who took part hears a call within two seconds of its row, and nobody else',
  async (t) => {
    const daemon = await startTestDaemon(t)
    const file = daemon.place.at('cdr.db')
    const writer = startWriter(t, file)
    await writer.run('PRAGMA journal_mode=WAL', TABLE)
    await daemon.reload({
      calls: `sources = ["names", "cdr"]\ncdr_file = "${file}"`,
      'roles.user': 'grants = ["read:recordings/{own_calls}"]',
    })
    const { access: user } = await daemon.softphone('201')
    const { access: admin } = await daemon.softphone('900')
    const recording = '2026/11/28/10/mikopbx-1.1_a.webm'
    const ask = async (token: string, name = recording) => {
      const headers = { 'X-Auth-Action': 'read', resource: `recordings/${name}` }
      const { status, header } = await daemon.check(token, headers)
      return status === 204 ? 'heard' : header('x-auth-reason')
    }
    t.same([await ask(user), await ask(admin)], ['unknown_call', 'heard'])
    await pause(1000) // the file is there, its row comes later
    t.equal(await ask(user), 'unknown_call')
    await writer.run(insertCall('2026/11/28/10/mikopbx-1.1_a.mp3'))
    const elapsed = startStopwatch()
    await until(async () => (await ask(user)) === 'heard')
    t.ok(elapsed().ours <= 2000, `heard after ${elapsed().took} ms`)
    await writer.run(
      insertCall('b.wav', '202'),
      insertCall('c.wav').replace('PJSIP/201-', 'PJSIP/carrier-'),
    )
    await until(async () => (await ask(user, 'c.wav')) !== 'unknown_call')
    t.same(
      [await ask(user, 'b.wav'), await ask(user, 'c.wav'), await ask(admin, 'c.wav')],
      ['no_grant', 'no_grant', 'heard'],
      'another’s, and who showed 201',
    )
    t.match((await daemon.control('/ready')).json(), { cdr: { recordings: 3 } })
    t.equal(await daemon.metric('postern_cdr_load_success'), 1)
    await writer.run('ALTER TABLE cdr_general RENAME TO other')
    await pause(1500)
    daemon.clock.advance(6) // what may be over in a moment is nobody's business
    await until(async () => (await daemon.metric('postern_cdr_load_success')) === 0)
    t.equal(await ask(user), 'heard', 'what was known stays')
    t.match(daemon.logText(), /the CDR cannot be read: what it told before stays in force/)
    t.match(daemon.logText(), /has no table cdr_general: correct calls.cdr_table/)
    await writer.run(
      'ALTER TABLE other RENAME TO cdr_general',
      'ALTER TABLE cdr_general RENAME COLUMN src_chan TO a',
      'ALTER TABLE cdr_general RENAME COLUMN from_account TO b',
    )
    await until(async () => (await daemon.metric('postern_cdr_load_success')) === 1)
    t.match(daemon.logText(), /has no column for the channel of the source/)
    t.match(daemon.logText(), /the CDR is read, and followed/)
  },
)
