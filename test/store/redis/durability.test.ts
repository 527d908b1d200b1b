// Crash and race: three hosts log in, rotate and log out while Redis is killed at random, and everything that
// was acknowledged is looked for afterwards. CRASHES=100 runs it in full, SEED=… replays a run.
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { openRedisStore } from '../../../src/store/redis/redis.ts'
import type { SharedStore } from '../../../src/store/shared-store.ts'
import { NOW } from '../../fixtures/clock.ts'
import { NEEDS_REDIS, startRedis, until } from '../../fixtures/redis.ts'
import { hashOf, renewalAt, sessionOf, successor } from '../sessions.ts'

const CRASHES = Number(process.env['CRASHES'] ?? 4)
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000)

/** mulberry32: the same numbers for the same seed. */
const createRandom = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What a client knows of its session: only what it was told. */
interface Journal {
  sid: string
  /** The last token that was acknowledged, and those that were asked for and never answered. */
  token: string
  asked: string[]
  rotated: number
  logout: 'none' | 'asked' | 'acknowledged'
}

void t.test(
  `nothing acknowledged is lost in ${CRASHES} crashes (SEED=${SEED})`,
  { ...NEEDS_REDIS, timeout: (120 + CRASHES * 20) * 1000 },
  async (t) => {
    const random = createRandom(SEED)
    const server = await startRedis(t, { appendonly: 'yes', appendfsync: 'always' })
    const hosts: SharedStore[] = []
    for (let index = 0; index < 3; index++) {
      const store = await openRedisStore({ url: server.url, pollSeconds: 0.2, now: () => NOW })
      t.teardown(() => store.close())
      hosts.push(store)
    }
    const lost: string[] = []
    for (const { feed } of hosts) {
      feed.onState(({ state, message }) => state === 'lost' && lost.push(message))
    }
    const any = () => hosts[Math.floor(random() * 3)] as SharedStore
    const journals: Journal[] = []
    const over = new AbortController()

    const client = async (name: number): Promise<void> => {
      for (let count = 0; !over.signal.aborted; count++) {
        const sid = `c${name}-${count}`
        const journal: Journal = { sid, token: '', asked: [`${sid}/0`], rotated: 0, logout: 'none' }
        journals.push(journal)
        try {
          await any().openSession(sessionOf(sid), hashOf(`${sid}/0`))
          journal.token = `${sid}/0`
          journal.asked = []
          for (let step = 1; step < 4 && !over.signal.aborted; step++) {
            const next = `${sid}/${step}`
            journal.asked.push(next)
            // Two hosts at once, with one and the same token: as two tabs do.
            const both = await Promise.all(
              [next, `${next}b`].map(async (text) => {
                if (text !== next) journal.asked.push(text)
                const host = any()
                const said = await host.rotate(
                  hashOf(journal.token),
                  successor(text),
                  renewalAt(0),
                  30,
                )
                return { text, said }
              }),
            )
            const winner = both.find(({ said }) => said.outcome === 'rotated')
            if (!winner)
              throw new Error(`no winner: ${both.map(({ said }) => said.outcome).join()}`)
            journal.token = winner.text
            journal.asked = []
            journal.rotated++
          }
          if (random() < 0.5) continue
          journal.logout = 'asked'
          await any().endSession(sid, 'logout', NOW)
          journal.logout = 'acknowledged'
        } catch (error) {
          if ((error as { code?: string }).code !== 'unavailable') throw error
          await pause(20)
        }
      }
    }
    const clients = Array.from({ length: 8 }, (_, name) => client(name))
    for (let crash = 0; crash < CRASHES; crash++) {
      await pause(50 + random() * 300)
      await server.kill()
      await pause(random() * 100)
      await server.start()
      await until(() => hosts.every(({ feed }) => feed.state() === 'ok'), 20)
    }
    over.abort()
    await Promise.all(clients)

    const wrong: unknown[] = []
    const checker = hosts[0] as SharedStore
    for (const journal of journals) {
      const { sid, token, asked, logout } = journal
      const candidates = [token, ...asked].filter((text) => text !== '')
      const found = await Promise.all(
        candidates.map(async (text) => ({
          text,
          ...(await checker.findByRefresh(hashOf(text), NOW)),
        })),
      )
      const acknowledged = found.find(({ text }) => text === token)
      if (token !== '' && acknowledged?.state === 'unknown') wrong.push({ sid, lost: token })
      if (logout === 'acknowledged' && found.some(({ state }) => state === 'live')) {
        wrong.push({ sid, alive: found })
      }
      if (logout === 'none' && found.some(({ state }) => state === 'ended')) {
        wrong.push({ sid, dead: found })
      }
      // Of what was asked for and never answered at most one may have happened.
      if (found.filter(({ text, state }) => text !== token && state === 'live').length > 1) {
        wrong.push({ sid, branches: found })
      }
    }
    t.same(wrong, [])
    t.same(lost, [], 'and nothing was thought lost that was not')
    t.ok(journals.length > CRASHES * 4, `${journals.length} sessions`)
    t.ok(journals.some(({ logout }) => logout === 'acknowledged'))
  },
)
