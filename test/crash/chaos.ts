// What is killed, and when: a plan that the seed decides alone. It replays the schedule, not the races: which
// request a kill meets is up to the machine.

import { createRandom } from './random.ts'

export interface Fault {
  /** Seconds after the load was resumed. */
  readonly after: number
  /**
   * Then it waits for the next answer of this kind, and strikes at once: what was acknowledged a moment ago is
   * what a store that answers too early has not written yet. None: it strikes whatever is under way.
   */
  readonly upon?: 'login' | 'refresh' | 'logout'
  /** Who gets SIGKILL, in this order; `redis` may be among them. */
  readonly kill: readonly string[]
  /** Seconds between one of them and the next. */
  readonly apart: number
  /** Seconds that Redis is gone before it is started again; hosts are started at once. */
  readonly gone: number
  /** Seconds that Redis is stopped and goes on afterwards (SIGSTOP, SIGCONT); 0: it is not. */
  readonly stopped: number
  /** Whether the next fault waits until all are well again. */
  readonly heals: boolean
}

export const REDIS = 'redis'
/** The longest that a plan stops Redis for, in seconds. */
export const LONGEST_STOP = 1

const EARLIEST = 0.005
const LATEST = 0.5
const FAULTS_OF_ALL = 0.25 // share of faults that meet a system not well yet: a start is killed as well

/** `kills`: how many processes are killed in all. */
export const planFaults = (plan: {
  seed: number
  kills: number
  hosts: readonly string[]
  redis: boolean
}): Fault[] => {
  const random = createRandom(plan.seed)
  const faults: Fault[] = []
  let left = plan.kills
  const choose = (): string[] => {
    const host = random.pick(plan.hosts)
    if (!plan.redis || random.chance(0.45)) return [host]
    if (left === 1 || random.chance(0.6)) return [REDIS]
    return random.chance(0.5) ? [REDIS, host] : [host, REDIS]
  }
  while (left > 0) {
    const stopped = plan.redis && random.chance(0.15) ? random.between(0.05, LONGEST_STOP) : 0
    const kill = stopped > 0 ? [] : choose()
    left -= kill.length
    faults.push({
      after: random.between(EARLIEST, LATEST),
      ...(random.chance(0.5) && { upon: random.pick(['login', 'refresh', 'logout', 'logout']) }),
      kill,
      apart: random.between(0, 0.1),
      // Now and then for longer than checks may go on from memory.
      gone: random.chance(0.1) ? random.between(2.5, 3.5) : random.between(0, 0.3),
      stopped,
      heals: !random.chance(FAULTS_OF_ALL),
    })
  }
  return faults
}
