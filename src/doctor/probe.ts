// What a stranger sees of a protected address, tried for real through nginx: without a token, with a bad one,
// with headers of their own, and by other spellings of the same path. None of it may be let in.

import { request as plain } from 'node:http'
import { request as secure } from 'node:https'

import { findCertificateFault, systemTrust } from '../files/certificates.ts'
import type { Finding } from './finding.ts'

interface Answer {
  status: number
  challenge: string
}

const TIMEOUT = 5000 // milliseconds
const CURE = 'protect this location: action, resource, and `include postern/postern-protect.conf`'

/** The path goes out as it is written: a URL parser would mend the very spellings that are tried. */
const ask = (
  url: URL,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<Answer> => {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  const { protocol, hostname, port, host } = url
  const outgoing = (protocol === 'https:' ? secure : plain)({
    hostname: hostname.replace(/^\[(.*)\]$/, '$1'),
    ...(port !== '' && { port }),
    path,
    headers: { ...headers, Host: host },
    timeout: TIMEOUT,
    ...(protocol === 'https:' && systemTrust()),
  })
  outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 5 s')))
  outgoing.on('error', reject)
  outgoing.on('response', (response) => {
    response.destroy()
    resolve({
      status: Number(response.statusCode),
      challenge: response.headers['www-authenticate'] ?? '',
    })
  })
  outgoing.end()
  return promise
}

const spellings = (path: string): string[] => {
  const last = path.lastIndexOf('/')
  const name = path.slice(last + 1)
  const hex = (text: string): string => `%${text.charCodeAt(0).toString(16)}`
  return [
    `/${path}`,
    `/.${path}`,
    `${path.slice(0, last)}/x/..${path.slice(last)}`,
    `${path.slice(0, last)}%2f${name}`,
    `${path.slice(0, last + 1)}${hex(name)}${name.slice(1)}`,
    `${path.slice(0, last)}/%2e/${name}`,
    `${path}?token=x&authorization=y`,
    path.toUpperCase(),
    `${path}/`,
    `${path};x=1`,
    `${path}%00`,
  ]
}

/** `url` names something that is there and protected. One finding a probe. */
export const probe = async (url: URL): Promise<Finding[]> => {
  const path = url.pathname
  const forged = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'
  const tries: readonly (readonly [string, string, Readonly<Record<string, string>>])[] = [
    ['without a token', path, {}],
    ['with a forged token', path, { Authorization: `Bearer ${forged}` }],
    ['with identity headers of its own', path, { 'X-Auth-User': 'admin', 'X-Auth-Role': 'admin' }],
    [
      'with the headers of a check of its own',
      path,
      { 'X-Auth-Action': 'read', 'X-Auth-Resource': 'public', 'X-Original-URI': '/' },
    ],
    ['with an address of its own', path, { 'X-Forwarded-For': '127.0.0.1', 'X-Real-IP': '::1' }],
    ...spellings(path).map((spelling) => [`as ${spelling}`, spelling, {}] as const),
  ]
  const findings: Finding[] = []
  for (const [how, spelling, headers] of tries) {
    const found = (state: Finding['state'], text: string, cure?: string): void => {
      const base = { rule: 'probe', state, where: `${url.origin}${path}`, text: `${how}: ${text}` }
      findings.push(cure === undefined ? base : { ...base, cure })
    }
    try {
      const { status, challenge } = await ask(url, spelling, headers)
      if (status < 400) found('problem', `answered ${status}`, CURE)
      else if (spelling === path && status !== 401) {
        found(
          'warning',
          `answered ${status} and not 401`,
          'name an address that is there and protected',
        )
      } else if (status === 401 && !/^Bearer\b/.test(challenge)) {
        found(
          'problem',
          '401 without WWW-Authenticate',
          'take the error locations of postern-server.conf',
        )
      } else found('ok', `refused (${status})`)
    } catch (error) {
      const { code = '', message } = error as NodeJS.ErrnoException
      const cure = findCertificateFault(code) ?? 'is nginx up, and is this its address?'
      found('problem', `no answer (${message})`, cure)
    }
  }
  return findings
}
