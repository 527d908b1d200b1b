// Whether nginx can be reached to end streams: never taken for granted, and told once an outage.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { systemClock } from '../../src/clock.ts'
import { type KickWatch, openKickWatch } from '../../src/streams/kick-watch.ts'
import { createKicker, KickSocketError, type Kicker } from '../../src/streams/kicker.ts'
import { openKickSocket } from '../fixtures/kick-socket.ts'
import { until } from '../fixtures/postern.ts'

const watch = async (t: Test, kicker: Pick<Kicker, 'countChannels'>) => {
  const said: (string | undefined)[] = []
  const opened: KickWatch = await openKickWatch({
    kicker,
    clock: systemClock,
    onChange: (fault) => void said.push(fault?.message),
  })
  t.teardown(() => {
    opened.close()
  })
  return { ...opened, said }
}

void t.test('with a socket that comes and goes', async (t) => {
  // Not in t.testdir(): a socket's path has 107 bytes, and the tree may stand anywhere.
  const folder = mkdtempSync(join(tmpdir(), 'kick-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const path = join(folder, 'k.sock')
  const kicker = createKicker(path)
  t.teardown(() => {
    kicker.close()
  })
  const { obstacle, channels, said } = await watch(t, kicker)
  t.type(obstacle(), KickSocketError, 'nothing is taken for granted at the start')
  t.match(obstacle()?.message, `${path} is not there`)
  t.same(channels(), Number.NaN)
  t.same(said, [], 'but it may still be starting')

  const first = await openKickSocket(t, path)
  await until('it is found', () => obstacle() === undefined)
  t.equal(channels(), 0)
  t.same(said, [], 'nobody was told that it was away')

  await first.close()
  await until('it is missed', () => obstacle() !== undefined)
  t.same(channels(), Number.NaN)
  t.equal(said.length, 1)
  await delay(2000)
  t.equal(said.length, 1, 'once an outage')

  const second = await openKickSocket(t, path)
  await until('it is found again', () => obstacle() === undefined)
  t.equal(said.at(-1), undefined)
  t.equal(said.length, 2)

  await second.close()
  await delay(300)
  await openKickSocket(t, path)
  await delay(2000)
  t.equal(obstacle(), undefined)
  t.equal(said.length, 2, 'a restart of nginx is no outage')
})

void t.test('one look at a time, and one that never ends counts for nothing', async (t) => {
  let [looks, hangs] = [0, false]
  const { obstacle, said } = await watch(t, {
    async countChannels() {
      looks++
      if (hangs) await new Promise(() => undefined)
      return 0
    },
  })
  t.equal(obstacle(), undefined)
  hangs = true
  await until('it is looked at again', () => looks === 2)
  await until('it is missed', () => obstacle() !== undefined)
  t.match(said, [/does not answer/])
  await delay(1200)
  t.equal(looks, 2)
})

void t.test('an outage is told with its own cause, not with the last one’s', async (t) => {
  const answers = [
    () => Promise.reject(new KickSocketError('k.sock is not there')),
    () => Promise.resolve(0),
  ]
  const { obstacle, said } = await watch(t, {
    countChannels: () => answers.shift()?.() ?? new Promise(() => undefined),
  })
  await until('it is found', () => obstacle() === undefined)
  await until('it is missed', () => said.length > 0)
  t.match(said, [/does not answer/])
})

void t.test('a first look that never ends keeps nobody waiting', async (t) => {
  const { obstacle } = await watch(t, { countChannels: () => new Promise(() => undefined) })
  t.match(obstacle()?.message, /does not answer/)
})

void t.test('closed it looks no more and says nothing', async (t) => {
  let looks = 0
  const answers: PromiseWithResolvers<number>[] = []
  const countChannels = () => {
    looks++
    const answer = Promise.withResolvers<number>()
    answers.push(answer)
    return answer.promise
  }
  const opening = watch(t, { countChannels })
  answers[0]?.reject(new KickSocketError('away'))
  const { obstacle, said, close } = await opening
  await until('it was missed and is looked at again', () => said.length === 1 && looks > 1)
  t.equal(obstacle()?.message, 'away')
  close()
  answers.at(-1)?.resolve(0)
  const before = looks
  await delay(1200)
  t.equal(looks, before)
  t.same(said, ['away'])
})
