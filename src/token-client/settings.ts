// What `get-auth-token` was asked to do: arguments and environment → settings, or what is wrong with
// them. It never quotes a value back: the password may stand in any of them by mistake.

import { parseArgs } from 'node:util'

import { readTrust, type Trust } from '../files/certificates.ts'

export interface Settings {
  /** `<MIKOPBX_API_URL>/auth:login` */
  url: URL
  login: string
  password: string
  /** Seconds that one attempt may take, and the longest wait between two. */
  timeout: number
  retries: number
  insecure: boolean
  /** Undefined: the system's authorities. */
  trust: Trust | undefined
  debug: boolean
}

export type Environment = Readonly<Record<string, string | undefined>>

export const USAGE = `Usage: get-auth-token [--timeout SECONDS] [--retries N] [--cacert FILE | --insecure] [--debug]

Logs in to the MikoPBX REST API v3 (or to Postern) and prints the access token, nothing else:
  TOKEN=$(get-auth-token) && curl -H "Authorization: Bearer $TOKEN" ...

Environment:
  MIKOPBX_API_URL    base of the API, e.g. https://pbx.example/pbxcore/api/v3 (required)
  MIKOPBX_LOGIN      who logs in (default: admin)
  MIKOPBX_PASSWORD   the password (required)
  DEBUG=1            the same as --debug
  NODE_EXTRA_CA_CERTS=FILE  authorities to trust beside the system's

Options:
  --timeout SECONDS  for one attempt, answer included (default 10); also the longest wait before a retry
  --retries N        after a transport failure, 502, 503, 504, or 429 with Retry-After (default 2)
  --cacert FILE      trust only the certificates in this PEM file
  --insecure         accept any certificate: whoever sits in between reads the password
  --debug            explain on stderr; neither the password nor the token is shown
  --help             this text

Exit: 0 token printed; 1 refused; 2 no connection or no whole answer; 3 an answer without a usable
token; 64 wrong usage.`

type Parsed = { help: true } | { settings: Settings } | { problems: string[] }

const OPTIONS = {
  timeout: { type: 'string', default: '10' },
  retries: { type: 'string', default: '2' },
  cacert: { type: 'string' },
  insecure: { type: 'boolean', default: false },
  debug: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

const EXAMPLE = 'e.g. https://pbx.example/pbxcore/api/v3'

const parseUrl = (text: string | undefined): URL | string => {
  if (text === undefined || text === '') {
    return `MIKOPBX_API_URL is not set: set it to the base of the API, ${EXAMPLE}`
  }
  const url = URL.parse(text)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    return `MIKOPBX_API_URL is no http:// or https:// address: set it to the base of the API, ${EXAMPLE}`
  }
  if (url.username !== '' || url.password !== '') {
    return 'MIKOPBX_API_URL holds a login or password: move them to MIKOPBX_LOGIN and MIKOPBX_PASSWORD'
  }
  if (url.search !== '' || url.hash !== '') {
    return `MIKOPBX_API_URL has a query or a fragment: set it to the base of the API alone, ${EXAMPLE}`
  }
  url.pathname = url.pathname.replace(/(?<!\/)\/*$/, '/auth:login')
  return url
}

export const parseSettings = (args: readonly string[], env: Environment): Parsed => {
  let values
  try {
    ;({ values } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: false }))
  } catch {
    return {
      problems: [
        'unknown or incomplete option: run get-auth-token --help; login and password come from the environment',
      ],
    }
  }
  if (values.help) return { help: true }

  const problems: string[] = []
  const url = parseUrl(env['MIKOPBX_API_URL'])
  if (typeof url === 'string') problems.push(url)
  const password = env['MIKOPBX_PASSWORD'] ?? ''
  if (password === '') problems.push('MIKOPBX_PASSWORD is not set: set it to the password')
  const timeout = /^\d{1,3}(\.\d{1,3})?$/.test(values.timeout) ? Number(values.timeout) : 0
  if (timeout <= 0 || timeout > 600) {
    problems.push('--timeout: give seconds, more than 0 and at most 600')
  }
  if (!/^(\d|10)$/.test(values.retries)) problems.push('--retries: give a number from 0 to 10')
  if (values.insecure && values.cacert !== undefined) {
    problems.push('--insecure and --cacert contradict each other: keep --cacert')
  }
  const trust = values.cacert === undefined ? undefined : readTrust(values.cacert, '--cacert')
  if (trust && 'problem' in trust) problems.push(trust.problem)

  if (problems.length > 0 || typeof url === 'string' || (trust && 'problem' in trust)) {
    return { problems }
  }
  return {
    settings: {
      url,
      // an empty variable is what `export MIKOPBX_LOGIN=` leaves behind, not a wish for an empty name
      login: env['MIKOPBX_LOGIN'] || 'admin',
      password,
      timeout,
      retries: Number(values.retries),
      insecure: values.insecure,
      trust,
      debug: values.debug || env['DEBUG'] === '1',
    },
  }
}
