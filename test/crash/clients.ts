// The load: clients that log in, refresh, race, come late and leave, by the choices of a seed, and never stop
// because somebody was killed: they ask again, as real ones do. What they are told is the journal's; nothing
// here decides whether it was right.

import { setTimeout as pause } from 'node:timers/promises'

import type { Actions, Done, Holder, Tokens } from './actions.ts'
import type { Host } from './hosts.ts'
import { createRandom, type Random } from './random.ts'

/** What a client holds of one session. */
interface Session extends Holder {
  refresh: string
  /** Access tokens, the newest last. */
  readonly access: string[]
  /** Tokens that were traded in, the newest last, and when. */
  readonly traded: { token: string; at: number }[]
  /** An answer is missing: it asks again before anything else, while the grace lasts. */
  unsure: boolean
  over: boolean
  /** Left alone until then, so that the grace of its last token ends. */
  restsUntil: number
}

export interface Crowd {
  /** Logs everybody in; resolves when each has all of its sessions. */
  gather(): Promise<void>
  /** Runs until the signal; resolves when nothing is under way any more. */
  run(signal: AbortSignal): Promise<void>
  /** Shows every token of every session once more, and asks until it is answered. */
  audit(deadline: number): Promise<void>
}

const SESSIONS_EACH = 4
const KEPT = 3 // access tokens of a session that are still checked
const RECENT = 40 // sessions that checks prefer: what has just changed is where races are
const AUDITORS = 4
const LONGEST_PAUSE = 25 // milliseconds between two acts: the machine must have time for the daemons

export const createCrowd = (settings: {
  seed: number
  users: readonly string[]
  hosts: readonly Host[]
  actions: Actions
  /** Seconds, as the judge's. */
  grace: number
}): Crowd => {
  const { seed, users, hosts, actions, grace } = settings
  const all: Session[] = []
  const live = new Set<Session>()
  const over: Session[] = []
  const seconds = (): number => performance.now() / 1000

  const bury = (session: Session): void => {
    if (!live.delete(session)) return
    over.push(session)
    session.over = true
  }

  const take = (session: Session, presented: string, { answer, tokens }: Done): void => {
    if (answer === 'no') bury(session)
    if (answer === 'away' || answer === 'broken' || answer === 'late') session.unsure = true
    if (answer !== 'yes' || !tokens) return
    session.unsure = false
    session.access.push(tokens.access)
    if (session.access.length > KEPT) session.access.shift()
    if (presented !== session.refresh) return // a late tab: what it got is ours already
    session.traded.push({ token: presented, at: seconds() })
    session.refresh = tokens.refresh
  }

  const open = (user: string, dialect: Session['dialect'], tokens: Tokens): Session => {
    const { sid, refresh, access } = tokens
    const session: Session = {
      sid,
      user,
      dialect,
      refresh,
      access: [access],
      traded: [],
      unsure: false,
      over: false,
      restsUntil: 0,
    }
    all.push(session)
    live.add(session)
    return session
  }

  const createClient = (user: string, random: Random) => {
    let mine: Session[] = []
    let resting: Session | undefined
    const host = (): Host => random.pick(hosts)

    const login = async (): Promise<void> => {
      const dialect = random.chance(0.5) ? 'softphone' : 'mikopbx'
      const { tokens } = await actions.login(host(), user, dialect)
      if (tokens) mine.push(open(user, dialect, tokens))
    }
    const refresh = async (session: Session, token = session.refresh): Promise<void> => {
      take(session, token, await actions.refresh(host(), session, token))
    }
    /** Two tabs or more, at once and with one token. */
    const race = async (session: Session): Promise<void> => {
      const tabs = Array.from({ length: random.pick([2, 3, 4]) }, host)
      const token = session.refresh
      const done = await Promise.all(tabs.map(async (at) => actions.refresh(at, session, token)))
      for (const one of done) take(session, token, one)
    }
    const leave = async (session: Session): Promise<void> => {
      const everywhere = random.chance(0.1)
      const access = session.access.at(-1) ?? ''
      const older = session.traded[0]?.token ?? session.refresh
      const token = random.pick([{ access }, { refresh: session.refresh }, { refresh: older }])
      const at = host()
      const { answer } = await actions.logout(at, session, token, everywhere)
      if (answer !== 'yes') return
      await actions.check(at, session, access) // at once: the host that said so has no time to learn of it
      bury(session)
      if (everywhere) for (const one of mine) bury(one)
    }
    /** Whoever copied a token shows it after its successor was used. */
    const steal = async (session: Session): Promise<void> => {
      const old = random.pick(session.traded)
      await refresh(session, old.token)
    }
    /** Or when its grace is over, though its successor was not used: one of all sessions is left alone for it. */
    const rest = (): void => {
      const session = mine.find(({ traded, unsure }) => traded.length > 0 && !unsure)
      if (!session || resting) return
      session.restsUntil = seconds() + grace + 1.5
      resting = session
    }
    const wake = async (session: Session): Promise<void> => {
      resting = undefined
      await refresh(session, session.traded.at(-1)?.token)
    }
    /** A tab that slept shows the token before the last. */
    const comeLate = async (session: Session): Promise<void> => {
      const last = session.traded.at(-1)
      if (last && seconds() - last.at < grace - 1) await refresh(session, last.token)
    }
    const knockAgain = async (): Promise<void> => {
      const gone = random.pick(over.slice(-RECENT))
      await actions.refresh(host(), gone, gone.refresh)
    }

    const step = async (): Promise<void> => {
      mine = mine.filter((session) => !session.over)
      if (resting && resting.restsUntil < seconds()) return wake(resting)
      const awake = mine.filter((session) => session !== resting)
      const unsure = awake.filter((session) => session.unsure)
      if (unsure.length > 0 && random.chance(0.8)) return refresh(random.pick(unsure))
      const few = mine.length < SESSIONS_EACH && random.chance(0.2)
      if (awake.length === 0 || few) return login()
      const session = random.pick(awake)
      const roll = random.next()
      if (roll < 0.45) return refresh(session)
      if (roll < 0.68) return race(session)
      if (roll < 0.82) return comeLate(session)
      if (roll < 0.84) return session.traded.length > 0 ? steal(session) : undefined
      if (roll < 0.88) return leave(session)
      if (roll < 0.91) {
        await Promise.all([refresh(session), leave(session)])
        return undefined
      }
      if (roll < 0.93) {
        await Promise.all([leave(session), leave(session), race(session)])
        return undefined
      }
      if (roll < 0.94) {
        await actions.login(host(), user, 'softphone', false)
        return undefined
      }
      if (roll < 0.96) return rest()
      return over.length > 0 ? knockAgain() : undefined
    }
    const gather = async (): Promise<void> => {
      while (mine.length < SESSIONS_EACH) await login()
    }
    return { random, step, gather }
  }

  const createLooker = (random: Random) => async (): Promise<void> => {
    const gone = random.chance(0.9) ? over.slice(-RECENT) : over
    const among = random.chance(0.5) ? [...live] : gone
    if (among.length === 0) return
    const session = random.pick(among)
    await actions.check(random.pick(hosts), session, random.pick(session.access))
  }

  const clients = users.map((user, index) => createClient(user, createRandom(seed, index + 1)))

  const act = async (
    random: Random,
    step: () => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<void> => {
    while (!signal.aborted) {
      await step()
      await pause(random.between(0, LONGEST_PAUSE))
    }
  }

  /** Until the host says something; it is well again by now. */
  const insist = async (ask: () => Promise<Done>, deadline: number): Promise<Done> => {
    for (;;) {
      const done = await ask()
      if (done.answer === 'yes' || done.answer === 'no') return done
      if (seconds() > deadline) throw new Error('a host that is well again gives no answer')
      await pause(50)
    }
  }

  return {
    async gather() {
      await Promise.all(clients.map(async ({ gather }) => gather()))
    },
    async run(signal) {
      const acting = clients.map(({ random, step }) => act(random, step, signal))
      const lookers = [-1, -2].map((stream) => {
        const random = createRandom(seed, stream)
        return act(random, createLooker(random), signal)
      })
      await Promise.all([...acting, ...lookers])
    },
    async audit(patience) {
      const deadline = seconds() + patience
      const left = [...all]
      const look = async (): Promise<void> => {
        for (let session = left.pop(); session; session = left.pop()) {
          const { refresh, access } = session
          for (const token of access) {
            for (const host of hosts) {
              await insist(() => actions.check(host, session, token), deadline)
            }
          }
          const host = hosts[left.length % hosts.length] as Host
          const done = await insist(() => actions.refresh(host, session, refresh), deadline)
          if (!done.tokens) continue
          const { tokens } = done
          await insist(() => actions.check(host, session, tokens.access), deadline)
          await insist(() => actions.refresh(host, session, tokens.refresh), deadline)
        }
      }
      await Promise.all(Array.from({ length: AUDITORS }, look))
    },
  }
}
