// A trusted issuer's keys as text, from a file or over HTTP. An address comes from the config alone, and no
// redirect is followed: whoever is redirected to could sign as anybody.

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

import { findCertificateFault } from '../files/certificates.ts'
import { sendRequest } from '../http-client.ts'
import type { Loaded } from './key-source.ts'

const MAX_BYTES = 256 * 1024 // large public sets are 20 KiB
const TIMEOUT = 3 // seconds: shorter than nginx waits for a check

export const readJwksFile = async (file: string): Promise<Loaded> => {
  try {
    // O_NONBLOCK: a FIFO must not hang the start.
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const { mode, size } = await handle.stat()
      if ((mode & constants.S_IFMT) !== constants.S_IFREG) {
        return { problem: 'is not a regular file' }
      }
      if ((mode & 0o022) !== 0) {
        return { problem: 'can be written by others, who could put a key of theirs: chmod go-w it' }
      }
      if (size > MAX_BYTES) return { problem: `is larger than ${MAX_BYTES} bytes` }
      return { text: await handle.readFile('utf8') }
    } finally {
      await handle.close()
    }
  } catch (error) {
    return { problem: `cannot be read (${(error as NodeJS.ErrnoException).code})` }
  }
}

/** Seconds for which the answer may be kept (RFC 9111 §5.2.2); undefined if it does not say. */
const maxAgeOf = (cacheControl = ''): number | undefined => {
  if (/\bno-(?:store|cache)\b/i.test(cacheControl)) return 0
  const [, seconds] = /\bmax-age="?(\d{1,9})\b/i.exec(cacheControl) ?? []
  return seconds === undefined ? undefined : Number(seconds)
}

export const fetchJwks = async (url: string, timeout = TIMEOUT): Promise<Loaded> => {
  const exchange = await sendRequest({
    method: 'GET',
    url: new URL(url),
    headers: { accept: 'application/jwk-set+json, application/json' },
    timeout,
    maxBytes: MAX_BYTES,
  })
  if ('failed' in exchange) {
    const cure = findCertificateFault(exchange.failed, { restart: true }) ?? 'check the address'
    return { problem: `gave no complete answer (${exchange.failed}): ${cure}` }
  }
  const { status, headers, body } = exchange
  if (status !== 200) {
    return {
      problem: `answered ${status}, not 200: check the address (redirects are not followed)`,
    }
  }
  return { text: body, maxAge: maxAgeOf(headers['cache-control']) }
}
