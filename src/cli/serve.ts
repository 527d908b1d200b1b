// `postern serve`: the daemon in the foreground, until a signal. The first SIGTERM or SIGINT drains, the
// second ends at once; SIGHUP reloads.

import { systemClock } from '../clock.ts'
import { ConfigError } from '../config/config-error.ts'
import { type LoadedConfig, openConfig } from '../config/load.ts'
import { NOT_RELOADED } from '../daemon/in-force.ts'
import { judgeConfig } from '../daemon/judge.ts'
import { StartError } from '../daemon/open-state.ts'
import { type Daemon, startDaemon } from '../daemon/start.ts'
import { createLog, type Log, openLogStream } from '../log.ts'
import { createNotifier, listenFds } from '../systemd.ts'
import { type Command, verb } from './command.ts'
import { FAULT, OK } from './io.ts'

const KILLED = 130

/** Resolves at the first signal to stop; calls `onSecond` at the next. */
const nextStop = (onSecond: () => void, onHangup: () => void): Promise<string> => {
  const { promise, resolve } = Promise.withResolvers<string>()
  let stopping = false
  const stop = (signal: string): void => {
    if (stopping) onSecond()
    stopping = true
    resolve(signal)
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  process.on('SIGHUP', onHangup)
  return promise
}

/** logrotate sends the signal, and means no change of users. What keeps a reload from being judged is told like what is wrong with it: the old config stays in force. */
const reload = async (daemon: Daemon, log: Log): Promise<void> => {
  try {
    await daemon.reload(undefined, false)
  } catch (error) {
    log.error({ problems: [String(error)] }, NOT_RELOADED)
  }
}

/** Why it does not start: as check-config says it, with the place in the file, where the file is to blame. */
const explain = async (error: unknown, loaded: LoadedConfig): Promise<never> => {
  if (error instanceof ConfigError || error instanceof StartError) await judgeConfig(loaded)
  throw error
}

const serveUntilStopped = async (file: string): Promise<number> => {
  // A debugger would read the keys: the signal that Node opens its inspector for does nothing here.
  if (process.listenerCount('SIGUSR1') === 0) process.on('SIGUSR1', () => {})
  process.umask(0o077) // whatever is created here holds secrets or names
  const loaded = openConfig(file)
  const { config } = loaded
  const lost = { lines: 0 }
  const stream = openLogStream(1, {
    journal: process.env['JOURNAL_STREAM'] !== undefined,
    onLost() {
      lost.lines++
    },
  })
  const log = createLog(config.log.level, stream)
  const warn = ({ warnings }: LoadedConfig): void => {
    if (warnings.length > 0)
      log.warn({ warnings }, 'settings that have no effect, or not the one that is meant')
  }
  warn(loaded)
  const sockets = listenFds(process.env)
  const notifier = createNotifier(process.env, sockets, (error) => {
    log.warn({ err: error }, 'systemd could not be told: let ExecStart= run notify-exec.pl')
  })
  let standing = 'deciding'
  const daemon = await startDaemon(config, {
    log,
    clock: systemClock,
    sockets,
    lost,
    onStoreDeath(fault) {
      log.fatal({ err: fault }, 'the daemon ends, to be started again')
      void stream.close().finally(() => process.exit(FAULT))
    },
    onStanding(line) {
      standing = line
      notifier.status(line)
    },
    readConfig() {
      const next = openConfig(file)
      warn(next)
      return next.config
    },
  }).catch((error: unknown) => explain(error, loaded))
  const stopped = nextStop(
    () => process.exit(KILLED),
    () => {
      notifier.reloading()
      void reload(daemon, log).finally(() => {
        notifier.ready(standing)
      })
    },
  )
  // Only now: a SIGHUP before its handler is there would end the process.
  notifier.ready(standing)
  const { watchdog } = notifier
  if (watchdog) systemClock.every(watchdog.intervalSeconds, notifier.ping)
  const signal = await stopped
  notifier.stopping()
  log.info({ signal }, 'stopping')
  await daemon.stop()
  log.info('stopped')
  await stream.close()
  return OK
}

export const serve: Command = {
  name: 'serve',
  summary: 'run the daemon in the foreground',
  verbs: {
    '': verb({ options: { config: '[FILE]' }, run: ({ file }) => serveUntilStopped(file) }),
  },
}
