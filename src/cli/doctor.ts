// `postern doctor`: what is right and wrong on this machine, each wrong with its cure. It looks and asks, and
// changes nothing.

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

import type { CdrState } from '../calls/cdr.ts'
import { systemClock } from '../clock.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { keysFile, loadKeys } from '../config/keys-file.ts'
import { openConfig } from '../config/load.ts'
import { type Finding, ok, problem, warning } from '../doctor/finding.ts'
import { judgeFronts, judgeUncuttable, tryCuts } from '../doctor/cut.ts'
import { checkClock, checkClosed, checkNode, checkSocket, idsOf } from '../doctor/host.ts'
import { judgeNchan, workersThatKick } from '../doctor/nchan.ts'
import { type Directive, walk } from '../doctor/nginx-config.ts'
import { findTraps } from '../doctor/nginx-traps.ts'
import { probe } from '../doctor/probe.ts'
import { readNginx } from '../doctor/read-nginx.ts'
import { judgeConfig } from '../daemon/judge.ts'
import { inspectSharedStore } from '../daemon/open-state.ts'
import type { CutsReport } from '../daemon/operations.ts'
import { asOwner } from '../files/owner.ts'
import { inspectStore } from '../store/sqlite/copy.ts'
import { StoreError } from '../store/store.ts'
import { createCutter } from '../streams/cutter.ts'
import { createKicker } from '../streams/kicker.ts'
import { WHYS } from '../streams/means.ts'
import { streamFileOf } from '../streams/stream-file.ts'
import type { WorkersReport } from '../streams/workers.ts'
import { type Command, verb } from './command.ts'
import { askDaemon } from './control-client.ts'
import { OK, REFUSED, WrongUsage } from './io.ts'

/** What a look finds, or why it could not look. */
const judge = async (
  rule: string,
  where: string,
  look: () => Promise<Finding[]>,
): Promise<Finding[]> => {
  try {
    return await look()
  } catch (error) {
    /* c8 ignore next: no look throws anything else, and a fault is main's to tell */
    if (!(error instanceof ConfigError || error instanceof StoreError)) throw error
    const problems = 'problems' in error ? error.problems : [error.message]
    return problems.map((text) => problem(rule, where, text, 'see the message'))
  }
}

/** A warning as the daemon words it: what, then the cure. */
const doubtful = (rule: string, where: string, said: string): Finding => {
  const [text = '', cure = 'see the message'] = said.split(
    /: (?=set |point |install |add |chmod |correct |let |mend |start |name )/,
  )
  return warning(rule, where, text, cure)
}

const checkSharedStore = async (config: Config): Promise<Finding[]> => {
  const warnings = await inspectSharedStore(config)
  if (warnings.length === 0) return [ok('store', 'store.url', 'nothing there un-revokes a token')]
  return warnings.map((said) => doubtful('store', 'store.url', said))
}

const checkState = async (config: Config): Promise<Finding[]> => {
  const { directory } = config.state
  const shared = config.store.url !== ''
  const store = join(directory, 'store.db')
  if (!shared && !existsSync(store) && !existsSync(keysFile(directory))) {
    const text = 'neither keys nor store, or they may not be looked at'
    const cure = 'the first start makes both; run doctor as root'
    return [warning('state', directory, text, cure)]
  }
  const keys = await judge('keys', directory, async () => {
    await asOwner(keysFile(directory), () => loadKeys(directory, { mustExist: true }))
    return [ok('keys', directory, 'the key file is good')]
  })
  const remembered = shared
    ? judge('store', 'store.url', () => checkSharedStore(config))
    : judge('store', store, async () => {
        const { sessions } = await asOwner(store, () => inspectStore(store))
        return [ok('store', store, `whole; live sessions: ${sessions}`)]
      })
  return [...keys, ...(await remembered)]
}

const judgeWorkers = (config: Config, report: WorkersReport): Finding => {
  const { reloadDue, listLost, guessed, unsure } = report
  const { processes } = config.streams
  if (listLost) {
    const text =
      'the list of streams was lost while nginx held some: they may go on after their session has ended'
    return problem(
      'streams-lost',
      streamFileOf(config.listen.control),
      text,
      'systemctl reload nginx',
    )
  }
  if (reloadDue) {
    const text = `a worker of nginx died${guessed ? ', as far as can be guessed' : ''}: streams on the others may go on after their session has ended (${unsure} do, as far as is known)`
    return problem('worker-died', processes, text, 'systemctl reload nginx')
  }
  if (!guessed) return ok('worker-died', processes, 'no worker of nginx died since its last reload')
  const text = 'nginx’s processes cannot be read there: the death of a worker is only guessed'
  const cure = 'name cgroup.procs of the unit that nginx runs in as streams.processes'
  return warning('worker-died', processes, text, cure)
}

/** By the daemon's own word: it has the groups and the sandbox that count. */
const judgeCdr = ({ calls }: Config, cdr: Partial<CdrState>): Finding => {
  const { recordings, problem: found } = cdr
  if (found !== undefined) {
    const { text, cure = '' } = doubtful('cdr', calls.cdrFile, found)
    return problem('cdr', calls.cdrFile, text, cure)
  }
  if (recordings !== undefined) return ok('cdr', calls.cdrFile, `tells of ${recordings} recordings`)
  const text = 'is being read: its recordings are nobody’s until then'
  return warning('cdr', calls.cdrFile, text, 'wait a few seconds')
}

const checkDaemon = async (config: Config): Promise<Finding[]> => {
  const { control } = config.listen
  const told = await askDaemon(control, 'GET', '/ready')
  const start = 'systemctl start postern, and look at its log'
  if (told === 'not_running') return [problem('daemon', control, 'nobody answers', start)]
  if ('problem' in told) {
    const cure = 'run doctor as root, and look at the daemon’s log'
    return [problem('daemon', control, told.problem, cure)]
  }
  const body = told.body as {
    obstacle?: string | null
    nginx?: WorkersReport & Partial<CutsReport>
    cdr?: Partial<CdrState>
  }
  const { obstacle, nginx, cdr } = body
  const daemon =
    obstacle === null
      ? ok('daemon', control, 'it runs and can decide')
      : problem('daemon', control, `it cannot decide: ${obstacle}`, 'see its log')
  if (!nginx) return [daemon]
  const old = nginx.namesInHeader
    ? [
        problem(
          'old-files',
          control,
          'nginx asks by files of 0.1.0: it serves no name beyond ASCII, and the next version answers none of it',
          'nginx -t && systemctl reload nginx',
        ),
      ]
    : []
  const calls = cdr ? [judgeCdr(config, cdr)] : []
  const left = judgeUncuttable(nginx.uncuttable ?? {}, control, { whys: WHYS })
  const fronts = judgeFronts(nginx.fronts ?? [])
  return [daemon, ...old, ...calls, ...left, ...fronts, judgeWorkers(config, nginx)]
}

/** A file that is there says nothing: nginx may have been killed, or listen no more under that name. */
const checkKickSocket = async (path: string, workers: string): Promise<Finding[]> => {
  const found = checkSocket('kick-socket', path, 'postern', idsOf('postern'), {
    absent:
      'start nginx, or where it runs, `systemctl restart nginx` (a reload does not bring the socket back)',
    closed: 'systemd-tmpfiles --create postern.conf',
  })
  if (found.state === 'problem' || !existsSync(path)) return [found]
  const kicker = createKicker(path)
  const judged = await kicker.version().then(
    (version) => [found, judgeNchan(path, version, workers)],
    (error: Error) => [problem('kick-socket', path, 'no stream can be ended', error.message)],
  )
  kicker.close()
  return judged
}

/** What goes wrong is a finding of its own. */
const foundAnyhow = (): void => undefined

const checkCuts = async (config: Config, tree: readonly Directive[]): Promise<Finding[]> => {
  const { end, cutSocket: path } = config.streams
  if (end === 'kick') return [ok('cut', 'streams.end', 'nothing is cut')]
  const cutter = createCutter({
    path,
    clock: systemClock,
    onChange: foundAnyhow,
    onRefused: foundAnyhow,
  })
  const cuts = { ...cutter, whys: WHYS, wait: systemClock.wait }
  const findings = await tryCuts([...walk(tree)], path, cuts)
  cutter.close()
  return findings
}

const checkNginx = async (config: Config, file: string | undefined): Promise<Finding[]> => {
  const kick = config.streams.kickSocket
  const folder = checkClosed('kick-folder', dirname(kick))
  const read = readNginx(file)
  if ('state' in read) return [read, folder]
  const { tree, warnings } = read
  const traps = findTraps(tree)
  const findings = traps.length > 0 ? traps : [ok('nginx', 'nginx -T', 'no trap found')]
  for (const text of warnings) {
    const cure = 'mend it: a site that nginx ignores answers nothing'
    findings.push(warning('nginx-warning', 'nginx -T', text, cure))
  }
  const cuts = await checkCuts(config, tree)
  findings.push(...cuts)
  const directives = Array.from(walk(tree), ({ directive }) => directive)
  const written = directives.find((one) => one.name === 'worker_processes')?.args[0] ?? '1'
  const workers = workersThatKick(written, config.streams.end, cuts)
  if (workers !== '1' && directives.some((one) => one.name === 'nchan_subscriber')) {
    const text = `worker_processes ${workers}: a stream that opens while messages flow may stay behind them`
    const cure = 'where every message counts, write `worker_processes 1;` (Nchan 1.3.6, 1.3.7)'
    findings.push(warning('workers', 'nginx -T', text, cure))
  }
  const name = directives.find((one) => one.name === 'user')?.args[0] ?? 'nobody'
  if ('path' in config.listen.http) {
    findings.push(
      checkSocket('http-socket', config.listen.http.path, name, idsOf(name), {
        absent: 'systemctl start postern.socket',
        closed: 'set its group and mode (listen.socket_group), and its folder’s',
      }),
    )
  }
  if (directives.some((one) => one.name === 'listen' && one.args[0] === `unix:${kick}`)) {
    return [...findings, ...(await checkKickSocket(kick, workers)), folder]
  }
  const text = 'nginx does not listen there: no stream can be ended'
  const cure = 'make the path in postern-local.conf the one of streams.kick_socket'
  return [...findings, problem('kick-socket', kick, text, cure), folder]
}

const SIGN: Readonly<Record<Finding['state'], string>> = {
  ok: 'ok  ',
  warning: 'warn',
  problem: 'BAD ',
}

const readUrl = (text: string | undefined): URL | undefined => {
  if (text === undefined) return undefined
  const url = URL.parse(text)
  if (url && /^https?:$/.test(url.protocol)) return url
  throw new WrongUsage('--url takes an http(s) address')
}

const inspect = async (file: string, nginx: string | undefined, url: URL | undefined) => {
  const node = checkNode(process.version, process.execPath, systemClock.now())
  const read: { config?: Config } = {}
  const here = await judge('config', 'postern.toml', async () => {
    const loaded = openConfig(file)
    const { config, warnings } = loaded
    read.config = config
    const judged = await judge('config', file, async () => {
      const doubts = [...warnings, ...(await judgeConfig(loaded))]
      return [ok('config', file, 'good'), ...doubts.map((said) => doubtful('config', file, said))]
    })
    const state = await checkState(config)
    const daemon = await checkDaemon(config)
    const looks = [...state, ...daemon, ...(await checkNginx(config, nginx))]
    const told = ({ text }: Finding) => looks.some((other) => text.endsWith(other.text))
    return [...judged.filter((found) => !told(found)), ...looks]
  })
  return [node, checkClock(), ...here, ...(url ? await probe(url, read.config) : [])]
}

export const doctor: Command = {
  name: 'doctor',
  summary: 'say what is right and wrong on this machine, with the cure',
  notes: [
    '--url URL      a protected address, e.g. of a recording: tried as a stranger would, and as a page of it',
    '--nginx FILE   the saved output of `nginx -T`',
  ],
  verbs: {
    '': verb({
      options: { url: '[URL]', nginx: '[FILE]', json: true, config: '[FILE]' },
      async run({ values: { url, nginx, json }, file }, io) {
        const findings = await inspect(file, nginx, readUrl(url))
        if (json) io.out(JSON.stringify(findings))
        else {
          for (const { state, where, text, cure } of findings) {
            io.out(`${SIGN[state]}  ${where}: ${text}`)
            if (cure !== undefined) io.out(`      ${cure}`)
          }
        }
        return findings.some(({ state }) => state === 'problem') ? REFUSED : OK
      },
    }),
  },
}
