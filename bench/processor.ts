// What processes have cost so far: processor time and memory, as the kernel counts them. Processor time per request
// is the number that stays the same on a noisy machine.

import { existsSync, readdirSync, readFileSync } from 'node:fs'

const TICKS = 100 // a second: USER_HZ, the same on every Linux that Node runs on
const ALL = /^Rss:\s+(\d+) kB$/m
const PROPORTIONAL = /^Pss:\s+(\d+) kB$/m

/** To the nanosecond, where the kernel keeps it: each thread's first number. */
const byThreads = (pid: number): number =>
  readdirSync(`/proc/${pid}/task`)
    .map((thread) =>
      Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
    )
    .reduce((sum, one) => sum + one, 0) / 1e9

/** To 10 ms. */
const byTicks = (pid: number): number => {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name may hold spaces and brackets; behind it fields 14 and 15 are utime and stime.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

const secondsOf = existsSync('/proc/self/schedstat') ? byThreads : byTicks

/** Seconds, of all threads, user and system. No thread of what we measure ends before its process. */
export const processorSeconds = (...pids: readonly number[]): number =>
  pids.map(secondsOf).reduce((sum, one) => sum + one, 0)

const kib = (pid: number, pattern: RegExp): number =>
  Number(pattern.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0)

/** Bytes in memory; what processes share counts in each. */
export const residentBytes = (pid: number): number => kib(pid, ALL) * 1024

/** Bytes in memory; what processes share counts once among them. */
export const ownBytes = (...pids: readonly number[]): number =>
  pids.map((pid) => kib(pid, PROPORTIONAL) * 1024).reduce((sum, one) => sum + one, 0)

/** Processes that this one has started. */
export const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter((word) => word !== '')
    .map(Number)
