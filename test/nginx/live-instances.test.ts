// Three real daemons on one real Redis behind one nginx, under load, while one after another is killed and comes
// back. Whoever asks nginx must not see it, and nothing may be done twice.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { type Nginx, nginxMissing, startNginx } from '../fixtures/nginx.ts'
import {
  bearer,
  HASH,
  login,
  makePlace,
  PASSWORD,
  type Place,
  type Run,
  serve,
  until,
} from '../fixtures/postern.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { ask, RECORDINGS, V1 } from './ask.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'
import { endsWithin, withToken } from './live.ts'
import { listInstances } from './several.ts'

const KILLS = 6 // each instance twice
const BOUND = 1500 // milliseconds in which an end reaches every instance, and the stream
const TAKEN_OVER = 10_000 // the same for a stream of an instance that does not come back: 5 s of silence first
const LOGINS = 2 // at a time

interface Instance {
  readonly place: Place
  daemon: Run
}

/** Daemons that share a store, the users, the keys of the first, and the nginx whose streams they end. */
const startInstances = async (t: Test, url: string): Promise<Instance[]> => {
  const instances: Instance[] = []
  let [kick, control] = ['', '']
  for (let count = 0; count < 3; count++) {
    const place = makePlace(t)
    if (kick === '') kick = place.at('kick.sock')
    place.configure({
      store: `url = "${url}"\ntimeout = 2`, // a busy machine is no outage
      streams: `kick_socket = "${kick}"`,
      sessions: 'per_user = 0',
      // In one run folder, as in the field: there each finds what another remembers.
      ...(control !== '' && { listen: `control = "${control}${count}.sock"` }),
      throttle: 'pair_failures = 1000000\naddress_failures = 1000000\naccount_failures = 1000000',
    })
    place.users(`201:${HASH}:user:Anna`, `202:${HASH}:user:Bert`)
    const [first] = instances
    if (first !== undefined) {
      mkdirSync(place.at('state'), { mode: 0o700 })
      copyFileSync(first.place.at('state', 'keys.json'), place.at('state', 'keys.json'))
    }
    control ||= place.at('control.')
    instances.push({ place, daemon: await serve(t, place) })
  }
  return instances
}

const sessionsOf = async ({ place }: Instance, user: string): Promise<number> => {
  const { body } = await ask(0, '/sessions', { socket: place.at('control.sock') })
  const { sessions } = JSON.parse(body) as { sessions: { user: string; username?: string }[] }
  return sessions.filter(({ user: name, username }) => (username ?? name) === user).length
}

/** Checks answered so far. */
const decisions = async ({ place }: Instance): Promise<number> =>
  [...(await place.operator('/metrics')).body.matchAll(/^postern_decisions_total\{.*\} (\d+)$/gm)]
    .map(([, count]) => Number(count))
    .reduce((sum, count) => sum + count, 0)

/** Repeats it until `stop` says so; each answer's status, or why there was none. */
const repeat = async (
  stop: () => boolean,
  one: () => Promise<{ status: number }>,
  pause: number,
): Promise<(number | string)[]> => {
  const answers: (number | string)[] = []
  while (!stop()) {
    try {
      answers.push((await one()).status)
    } catch (error) {
      answers.push(String(error))
    }
    await delay(pause)
  }
  return answers
}

const count = (answers: readonly unknown[], what: unknown): number =>
  answers.filter((answer) => answer === what).length

const skip = nginxMissing() || NEEDS_REDIS.skip

void t.test('three instances of which one is always dying', { skip }, async (t) => {
  const redis = await startRedis(t)
  const instances = await startInstances(t, redis.url)
  const [one] = instances as [Instance]
  /** It outlives the part of the test that starts it. */
  const revive = async (dead: Instance): Promise<void> => {
    dead.daemon = await serve(t, dead.place)
  }
  writeFileSync(one.place.at('a.wav'), 'RIFF')
  const nginx: Nginx = await startNginx(t, {
    postern: one.place.at('http.sock'),
    kick: one.place.at('kick.sock'),
    recordings: one.place.folder,
    local: listInstances(instances.map(({ place }) => place.at('http.sock'))),
  })
  // nginx limits logins by address.
  let address = 0
  const enter = () =>
    ask(nginx.port, `${V1}/auth/login`, {
      from: `127.0.1.${(address++ % 200) + 1}`,
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ username: '202', password: PASSWORD }),
    })
  const { access } = await login(one.place.ask)
  const play = () => ask(nginx.port, `${RECORDINGS}/a.wav`, { headers: bearer(access) })

  await t.test('no check fails, and no login is made twice', async (t) => {
    let stopped = false
    const stop = (): boolean => stopped
    const checks = Array.from({ length: 4 }, () => repeat(stop, play, 2))
    const logins = Array.from({ length: LOGINS }, () => repeat(stop, enter, 10))
    for (let kills = 0; kills < KILLS; kills++) {
      const dying = instances[kills % instances.length] ?? one
      await delay(200)
      await dying.daemon.end('SIGKILL')
      await delay(300)
      await revive(dying)
    }
    stopped = true
    const played = (await Promise.all(checks)).flat()
    const entered = (await Promise.all(logins)).flat()

    t.same(
      played.filter((answer) => answer !== 200),
      [],
      `of ${played.length} checks`,
    )
    t.ok(played.length > 200, String(played.length))
    const [let_in, lost] = [count(entered, 200), count(entered, 503)]
    t.equal(let_in + lost, entered.length, `logins: ${[...new Set(entered)].join()}`)
    // Those that an instance died of; none for the two that were there.
    t.ok(let_in > 10 && lost <= KILLS * LOGINS, `${let_in} let in, ${lost} lost`)
    const sessions = await sessionsOf(one, '202')
    t.ok(sessions >= let_in && sessions <= let_in + lost, `${sessions} sessions, ${let_in} logins`)
    t.comment(`${played.length} checks, ${let_in} logins, ${lost} lost, ${sessions} sessions`)
  })

  await t.test('none is left out when it is back', async (t) => {
    await one.daemon.end('SIGKILL')
    for (let i = 0; i < 30; i++) t.equal((await play()).status, 200)
    await revive(one)
    const before = await decisions(one)
    for (let i = 0; i < 30; i++) t.equal((await play()).status, 200)
    t.ok((await decisions(one)) - before >= 5)
  })

  await t.test('a stream let in by any of them ends, whoever hears of the logout', async (t) => {
    for (const dead of instances) {
      const mine = await login((path, options) =>
        ask(nginx.port, path, { ...options, from: '127.0.2.1' }),
      )
      const streams = [
        await eventSource(t, nginx.port, withToken('users-state', mine.access)),
        await webSocket(t, nginx.port, withToken('contacts', mine.access)),
        await eventSource(t, nginx.port, withToken('active-calls', mine.access)),
      ]
      // One of them was let in by this one: it ends it when it is back, the others where it is not.
      await dead.daemon.end('SIGKILL')
      const out = await ask(nginx.port, `${V1}/auth/logout`, {
        method: 'POST',
        headers: bearer(mine.access),
      })
      t.equal(out.status, 200)
      const comesBack = dead !== one
      if (comesBack) await revive(dead)
      const bound = comesBack ? BOUND : TAKEN_OVER
      const took = await endsWithin(streams, bound)
      t.ok(took < bound, `${Math.round(took)} ms`)
      t.comment(`${comesBack ? 'back' : 'gone'}: all closed after ${Math.round(took)} ms`)
      if (!comesBack) await revive(dead)
      const refused = async (): Promise<boolean> => {
        const { status } = await ask(nginx.port, `${RECORDINGS}/a.wav`, {
          headers: bearer(mine.access),
        })
        return status === 401
      }
      await until('everyone knows', async () =>
        (await Promise.all(Array.from({ length: 9 }, refused))).every(Boolean),
      )
    }
  })

  await t.test('who stands beside takes over from one that does not come back', async (t) => {
    const held = async ({ place }: Instance): Promise<number> =>
      Number(/^postern_subscriptions (\d+)$/m.exec((await place.operator('/metrics')).body)?.[1])
    const from = '127.0.3.1'
    const enters = () => login((path, options) => ask(nginx.port, path, { ...options, from }))
    const [goes, stays] = [await enters(), await enters()]
    const before = await Promise.all(instances.map(held))
    const open = (token: string) => webSocket(t, nginx.port, withToken('users-state', token))
    const streams = { goes: [await open(goes.access)], stays: [] as Stream[] }
    const after = await Promise.all(instances.map(held))
    const dead = instances.find((_, at) => after[at] !== before[at]) ?? one
    while ((await held(dead)) < Number(after[instances.indexOf(dead)]) + 1) {
      streams.stays.push(await open(stays.access))
    }
    await dead.daemon.end('SIGKILL')
    const left = instances.find((instance) => instance !== dead) ?? one
    await ask(0, `${V1}/auth/logout`, {
      socket: left.place.at('http.sock'),
      method: 'POST',
      headers: bearer(goes.access),
    })
    const took = await endsWithin(streams.goes, TAKEN_OVER)
    t.ok(took < TAKEN_OVER, `${Math.round(took)} ms`)
    t.ok(streams.stays.every(({ live }) => live))
    await revive(dead)
  })
})
