// A network of several machines on this one: a namespace each, joined by a switch that is a namespace as well.
// Nothing of it has a name outside or an address on this machine, so any number of networks stand side by side,
// and all of it is gone with the processes that hold it. It must never touch this machine's own network.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

import { NEEDS_REDIS } from '../fixtures/redis.ts'

// With the test's process everything that it has started dies, also where it was killed.
export const DIES_WITH_US = ['setpriv', '--pdeathsig', 'KILL', '--'] as const

const works = (command: string): boolean =>
  spawnSync('sh', ['-ec', command], { stdio: 'ignore' }).status === 0

const obstacle = (): string | false => {
  if (NEEDS_REDIS.skip !== false) return String(NEEDS_REDIS.skip)
  if (process.getuid?.() !== 0) return 'needs root, for network namespaces'
  const probe = 'ip link add name one type veth peer name two && ip link add name br type bridge'
  if (!works(`unshare --net --mount sh -ec '${probe}'`)) {
    return 'needs network namespaces, veth and a bridge (iproute2, and a kernel that has them)'
  }
  return works("unshare --net sh -ec 'nft add table inet t'") ? false : 'needs nft (nftables)'
}

const why = obstacle()

/** The user of a machine that cannot do this sees a skip with its reason, CI a failure. */
export const NEEDS_HOSTS = { skip: process.env['CI'] === 'true' ? false : why }

/** netem delays for real, where the kernel has it; else a wire of our own does (slow-wire.ts). */
export const HAS_NETEM =
  why === false && works("unshare --net sh -ec 'tc qdisc add dev lo root netem delay 1ms'")

export interface Machine {
  readonly name: string
  readonly address: string
  /** What is put before a command that runs there. */
  readonly inside: readonly [string, ...string[]]
  /** A line of shell as root there, which must succeed. */
  sh(line: string): string
  /** What /etc/hosts says there; nothing else knows a name. */
  names(lines: readonly string[]): void
  /** The cable: unplugged, packets are lost and nobody is told. */
  unplug(): void
  plug(): void
  /** A firewall that drops this share of what arrives, in percent, without a word; 100 is a black hole. */
  drop(percent: number): void
  /** What arrives at these ports of ours is dropped, as on a connection that died without a word. */
  mute(ports: readonly number[]): void
  /** No firewall, and no delay. */
  clear(): void
  /** Milliseconds added to each way; only where the kernel has netem. */
  delay(milliseconds: number): void
}

export interface Network {
  machine(name: string): Promise<Machine>
}

interface Held {
  readonly pid: number
  readonly inside: readonly [string, ...string[]]
  sh(line: string): string
}

/** A namespace lives as long as the process in it. */
const hold = async (t: Test, line: string): Promise<Held> => {
  const script = `${line}\nip link set dev lo up\necho ready\nexec sleep infinity`
  const [command, ...rest] = [...DIES_WITH_US, 'unshare', '--net', '--mount']
  const child: ChildProcess = spawn(command, [...rest, 'sh', '-ec', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  })
  if (child.stdout === null) throw new Error('its output is a pipe')
  const started = once(child.stdout, 'data').then(() => true)
  const ended = once(child, 'exit').then(() => false)
  if (!(await Promise.race([started, ended]))) throw new Error('no namespace could be made')
  const pid = child.pid ?? 0
  const inside = ['nsenter', '--target', String(pid), '--net', '--mount', '--'] as const
  return {
    pid,
    inside,
    sh(text) {
      const [file, ...args] = [...inside, 'sh', '-ec', text]
      const done = spawnSync(file, args, { encoding: 'utf8' })
      if (done.status !== 0) throw new Error(`${text}: ${done.stderr}`)
      return done.stdout
    },
  }
}

const DROP_CHAIN =
  "nft 'add table inet fault; add chain inet fault arriving { type filter hook input priority 0; }; flush chain inet fault arriving'"

export const openNetwork = async (t: Test): Promise<Network> => {
  const folder = mkdtempSync(join(tmpdir(), 'hosts-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const wires = await hold(t, 'ip link add name br type bridge && ip link set dev br up')
  let count = 0
  return {
    async machine(name) {
      const address = `10.77.0.${++count}`
      const [hosts, resolver] = [join(folder, `${name}.hosts`), join(folder, `${name}.resolv`)]
      writeFileSync(hosts, '127.0.0.1 localhost\n')
      writeFileSync(resolver, 'nameserver 127.0.0.1\n') // nobody listens there: the lookup fails at once
      const held = await hold(
        t,
        `mount --bind ${hosts} /etc/hosts\nmount --bind ${resolver} /etc/resolv.conf`,
      )
      wires.sh(`ip link add name ${name} type veth peer name eth0 netns ${held.pid}
        ip link set dev ${name} master br up`)
      held.sh(`ip addr add ${address}/24 dev eth0\nip link set dev eth0 up`)
      const qdisc = (milliseconds: number): void => {
        if (!HAS_NETEM) return
        // Each end of the cable delays what it sends.
        for (const [at, device] of [
          [held, 'eth0'],
          [wires, name],
        ] as const) {
          at.sh(`tc qdisc del dev ${device} root 2>/dev/null || true`)
          if (milliseconds > 0)
            at.sh(`tc qdisc add dev ${device} root netem delay ${milliseconds}ms`)
        }
      }
      return {
        name,
        address,
        inside: held.inside,
        sh: held.sh,
        // Written in place: the namespace has mounted this very file.
        names: (lines) => writeFileSync(hosts, `${['127.0.0.1 localhost', ...lines].join('\n')}\n`),
        unplug: () => void wires.sh(`ip link set dev ${name} down`),
        plug: () => void wires.sh(`ip link set dev ${name} up`),
        // At the receiver: a sender whose own firewall drops is told so (EPERM).
        drop(percent) {
          const share = percent >= 100 ? '' : `numgen random mod 100 < ${percent} `
          held.sh(`${DROP_CHAIN}; nft 'add rule inet fault arriving iifname eth0 ${share}drop'`)
        },
        mute(ports) {
          const rules = ports.map(
            (port) => `nft 'add rule inet fault arriving tcp dport ${port} drop'`,
          )
          held.sh([DROP_CHAIN, ...rules].join('\n'))
        },
        clear() {
          held.sh(DROP_CHAIN)
          qdisc(0)
        },
        delay: qdisc,
      }
    },
  }
}
