// A request's body, bounded by the bytes that arrive, whatever Content-Length claims.

import type { IncomingMessage } from 'node:http'

import { parseStrictObject } from '../auth/strict-json.ts'
import { type Headers, trimBlanks } from './headers.ts'

export const MAX_BODY = 8 * 1024 // a login with the longest allowed password is below 3 KiB

/** More than MAX_BODY. */
export class TooLarge extends Error {}

/** All of it; rejects as soon as it is TooLarge: of the rest nothing is kept. */
export const readBody = (message: IncomingMessage): Promise<Buffer> => {
  if (message.readableEnded) return Promise.resolve(Buffer.alloc(0)) // no 'end' comes after this
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>()
  const chunks: Buffer[] = []
  let size = 0
  message.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > MAX_BODY) reject(new TooLarge())
    else chunks.push(chunk)
  })
  message.on('end', () => {
    resolve(Buffer.concat(chunks))
  })
  message.on('close', () => {
    reject(new Aborted())
  })
  message.on('error', () => {
    reject(new Aborted())
  })
  return promise
}

/** The client went away: there is nobody to answer. */
export class Aborted extends Error {
  constructor() {
    super('the client closed the connection before its request was complete')
    this.name = 'Aborted'
  }
}

const contentType = (headers: Headers): string => headers.get('content-type') ?? ''

const mediaType = (headers: Headers): string =>
  trimBlanks(contentType(headers).replace(/;.*$/, '')).toLowerCase()

const isUtf8 = (headers: Headers): boolean => {
  const charset = /;[ \t]*charset[ \t]*=[ \t]*"?([^"; \t]+)"?/i.exec(contentType(headers))?.[1]
  return charset === undefined || charset.toLowerCase() === 'utf-8'
}

/** The object of a JSON body, or undefined: another content type (login CSRF comes as text/plain), or no object. */
export const parseJsonBody = (
  headers: Headers,
  body: Uint8Array,
): Readonly<Record<string, unknown>> | undefined =>
  mediaType(headers) === 'application/json' && isUtf8(headers) ? parseStrictObject(body) : undefined

/** A cross-site form can send this as a "simple" request that looks like JSON: never accepted with a cookie. */
export const isTextBody = (headers: Headers): boolean => mediaType(headers) === 'text/plain'

/** The fields of a form body (WHATWG URL §5.1), or undefined: another type, a field twice, or no valid text. */
export const parseFormBody = (
  headers: Headers,
  body: Uint8Array,
): Readonly<Record<string, unknown>> | undefined => {
  if (mediaType(headers) !== 'application/x-www-form-urlencoded' || !isUtf8(headers))
    return undefined
  const fields = new Map<string, string>()
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(body)
    for (const pair of text.split('&')) {
      if (pair === '') continue
      const [name = '', ...rest] = pair.split('=').map((part) => part.replaceAll('+', ' '))
      const field = decodeURIComponent(name)
      if (fields.has(field)) return undefined
      fields.set(field, decodeURIComponent(rest.join('=')))
    }
  } catch {
    return undefined // not UTF-8, or a stray percent sign
  }
  return Object.fromEntries(fields)
}
