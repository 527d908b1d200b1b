// What a stranger sees of a protected address, tried for real through nginx: without a token, with a bad one,
// with headers of their own, and by other spellings of the same path. None of it may be let in.

import { findCertificateFault } from '../files/certificates.ts'
import { sendRequest } from '../http-client.ts'
import type { Finding } from './finding.ts'

const TIMEOUT = 5 // seconds
const CURE = 'protect this location: action, resource, and `include postern/postern-protect.conf`'

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
  const tries: readonly (readonly [string, string, Record<string, string>])[] = [
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
    const exchange = await sendRequest({
      method: 'GET',
      url,
      path: spelling,
      headers,
      timeout: TIMEOUT,
      maxBytes: 0,
    })
    if ('failed' in exchange) {
      const cure = findCertificateFault(exchange.failed) ?? 'is nginx up, and is this its address?'
      found('problem', `no answer (${exchange.failed})`, cure)
      continue
    }
    const { status, headers: answered } = exchange
    if (status < 400) found('problem', `answered ${status}`, CURE)
    else if (spelling === path && status !== 401) {
      found(
        'warning',
        `answered ${status} and not 401`,
        'name an address that is there and protected',
      )
    } else if (status === 401 && !/^Bearer\b/.test(answered['www-authenticate'] ?? '')) {
      found(
        'problem',
        '401 without WWW-Authenticate',
        'take the error locations of postern-server.conf',
      )
    } else found('ok', `refused (${status})`)
  }
  return findings
}
