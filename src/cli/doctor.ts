// `postern doctor`: what is right and wrong on this machine, each wrong with its cure. It looks and asks, and
// changes nothing.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'

import { systemClock } from '../clock.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { keysFile, loadKeys } from '../config/keys-file.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import type { Finding } from '../doctor/finding.ts'
import { checkClock, checkClosed, checkNode, checkSocket, idsOf } from '../doctor/host.ts'
import { type Directive, parseNginxDump, walk } from '../doctor/nginx-config.ts'
import { findTraps } from '../doctor/nginx-traps.ts'
import { probe } from '../doctor/probe.ts'
import { inspectSharedStore } from '../daemon/open-state.ts'
import { inspectStore } from '../store/sqlite/copy.ts'
import { StoreError } from '../store/store.ts'
import { createKicker } from '../streams/kicker.ts'
import { askDaemon } from './control-client.ts'
import { type Command, OK, REFUSED, USAGE } from './io.ts'

const OPTIONS = {
  config: { type: 'string' },
  nginx: { type: 'string' },
  url: { type: 'string' },
  json: { type: 'boolean' },
} as const

const good = (rule: string, where: string, text: string): Finding => ({
  rule,
  state: 'ok',
  where,
  text,
})
const wrong = (rule: string, where: string, text: string, cure: string): Finding => ({
  rule,
  state: 'problem',
  where,
  text,
  cure,
})

const problemsOf = (rule: string, where: string, error: unknown): Finding[] => {
  if (error instanceof ConfigError) {
    return error.problems.map((text) => wrong(rule, where, text, 'see the message'))
  }
  if (error instanceof StoreError) return [wrong(rule, where, error.message, 'see the message')]
  /* c8 ignore next: neither look throws anything else, and a fault is main's to tell */
  throw error
}

const checkSharedStore = async (config: Config): Promise<Finding[]> => {
  try {
    const warnings = await inspectSharedStore(config)
    if (warnings.length === 0)
      return [good('store', 'store.url', 'nothing there un-revokes a token')]
    return warnings.map((warning) => {
      const [text = '', cure = 'see the message'] = warning.split(/: (?=set |point |install )/)
      return { rule: 'store', state: 'warning', where: 'store.url', text, cure }
    })
  } catch (error) {
    return problemsOf('store', 'store.url', error)
  }
}

const checkState = async (config: Config): Promise<Finding[]> => {
  const findings: Finding[] = []
  const shared = config.store.url !== ''
  const store = join(config.stateDirectory, 'store.db')
  if (!shared && !existsSync(store) && !existsSync(keysFile(config.stateDirectory))) {
    return [
      {
        rule: 'state',
        state: 'warning',
        where: config.stateDirectory,
        text: 'neither keys nor store, or they may not be looked at',
        cure: 'the first start makes both; run doctor as root',
      },
    ]
  }
  try {
    await loadKeys(config.stateDirectory, { mustExist: true })
    findings.push(good('keys', config.stateDirectory, 'the key file is good'))
  } catch (error) {
    findings.push(...problemsOf('keys', config.stateDirectory, error))
  }
  if (shared) return [...findings, ...(await checkSharedStore(config))]
  try {
    const { sessions } = inspectStore(store)
    findings.push(good('store', store, `whole; live sessions: ${sessions}`))
  } catch (error) {
    findings.push(...problemsOf('store', store, error))
  }
  return findings
}

const checkDaemon = async (config: Config): Promise<Finding> => {
  const { control } = config.listen
  const told = await askDaemon(control, 'GET', '/ready')
  const start = 'systemctl start postern, and look at its log'
  if (told === 'not_running') return wrong('daemon', control, 'nobody answers', start)
  if ('problem' in told) {
    return wrong(
      'daemon',
      control,
      told.problem,
      'run doctor as root, and look at the daemon’s log',
    )
  }
  const { obstacle } = told.body as { obstacle?: string | null }
  return obstacle === null
    ? good('daemon', control, 'it runs and can decide')
    : wrong('daemon', control, `it cannot decide: ${obstacle}`, 'see its log')
}

interface NginxRead {
  tree: readonly Directive[]
  /** What nginx itself finds odd: a site that another one hides, for one. */
  warnings: readonly string[]
}

const linesOf = (text: string, level: string): string[] =>
  text.split('\n').filter((line) => line.includes(`[${level}]`))

/** The configuration as nginx itself reads it; saved text for where doctor may not run it. */
const readNginx = (file: string | undefined): NginxRead | Finding => {
  if (file !== undefined) {
    return { tree: parseNginxDump(readFileSync(file, 'utf8')), warnings: [] }
  }
  const { status, stdout, stderr } = spawnSync('nginx', ['-T'], { encoding: 'utf8' })
  if (status === 0) return { tree: parseNginxDump(stdout), warnings: linesOf(stderr, 'warn') }
  // No text at all: it could not be started.
  const said = (stderr as string | null)?.trim() ?? ''
  const why = linesOf(said, 'emerg').join(' ') || said
  return wrong(
    'nginx',
    'nginx -T',
    why === '' ? 'nginx is not installed' : why,
    'mend what nginx names (`nginx -t`), and run doctor as root; or give the saved `nginx -T` by --nginx',
  )
}

/** A file that is there says nothing: nginx may have been killed, or listen no more under that name. */
const checkKickSocket = async (path: string): Promise<Finding> => {
  const found = checkSocket('kick-socket', path, 'postern', idsOf('postern'), {
    absent:
      'start nginx, or where it runs `systemctl restart nginx`: a reload does not bring the socket back',
    closed: 'systemd-tmpfiles --create postern.conf',
  })
  if (found.state === 'problem' || !existsSync(path)) return found
  const kicker = createKicker(path)
  const judged = await kicker.status().then(
    () => found,
    (error: Error) => wrong('kick-socket', path, 'no stream can be ended', error.message),
  )
  kicker.close()
  return judged
}

const checkNginx = async (config: Config, file: string | undefined): Promise<Finding[]> => {
  const kick = config.subscriptions.kickSocket
  const folder = checkClosed('kick-folder', dirname(kick))
  const read = readNginx(file)
  if ('state' in read) return [read, folder]
  const { tree, warnings } = read
  const traps = findTraps(tree)
  const findings = traps.length > 0 ? traps : [good('nginx', 'nginx -T', 'no trap found')]
  for (const text of warnings) {
    const cure = 'mend it: a site that nginx ignores answers nothing'
    findings.push({ rule: 'nginx-warning', state: 'warning', where: 'nginx -T', text, cure })
  }
  const user = Array.from(walk(tree)).find(({ directive }) => directive.name === 'user')
  const name = user?.directive.args[0] ?? 'nobody'
  if ('path' in config.listen.http) {
    findings.push(
      checkSocket('http-socket', config.listen.http.path, name, idsOf(name), {
        absent: 'systemctl start postern.socket',
        closed: 'set its group and mode (listen.socket_group), and its folder’s',
      }),
    )
  }
  const listens = Array.from(walk(tree)).some(
    ({ directive }) => directive.name === 'listen' && directive.args[0] === `unix:${kick}`,
  )
  findings.push(
    listens
      ? await checkKickSocket(kick)
      : wrong(
          'kick-socket',
          kick,
          'nginx does not listen there: no stream can be ended',
          'make the path in postern-local.conf the one of subscriptions.kick_socket',
        ),
    folder,
  )
  return findings
}

const SIGN: Readonly<Record<Finding['state'], string>> = {
  ok: 'ok  ',
  warning: 'warn',
  problem: 'BAD ',
}

export const doctor: Command = {
  name: 'doctor',
  summary: 'say what is right and wrong on this machine, with the cure',
  usage: [
    'postern doctor [--url URL] [--nginx FILE] [--json] [--config FILE]',
    '       --url URL      a protected address, e.g. of a recording: tried as a stranger would',
    '       --nginx FILE   the saved output of `nginx -T`',
  ].join('\n'),
  async run(argv, io) {
    const usage = (problem: string): number => {
      io.err(`postern doctor: ${problem}`)
      io.err(`usage: ${doctor.usage}`)
      return USAGE
    }
    let values
    try {
      values = parseArgs({ args: [...argv], options: OPTIONS }).values
    } catch {
      return usage('an option is unknown, or lacks its value')
    }
    const url = values.url === undefined ? undefined : URL.parse(values.url)
    if (url === null || (url && !/^https?:$/.test(url.protocol)))
      return usage('--url takes an http(s) address')
    const findings: Finding[] = checkNode(process.version, process.execPath, systemClock.now())
    findings.push(checkClock())
    try {
      const file = values.config ?? CONFIG_FILE
      const config = loadConfig(file)
      findings.push(good('config', file, 'good'), ...(await checkState(config)))
      findings.push(await checkDaemon(config), ...(await checkNginx(config, values.nginx)))
    } catch (error) {
      /* c8 ignore next: a fault is main's to tell */
      if (!(error instanceof ConfigError)) throw error
      findings.push(...problemsOf('config', 'postern.toml', error))
    }
    if (url) findings.push(...(await probe(url)))
    if (values.json === true) io.out(JSON.stringify(findings))
    else {
      for (const { state, where, text, cure } of findings) {
        io.out(`${SIGN[state]}  ${where}: ${text}`)
        if (cure !== undefined) io.out(`      ${cure}`)
      }
    }
    return findings.some(({ state }) => state === 'problem') ? REFUSED : OK
  },
}
