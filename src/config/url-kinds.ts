// What an address of the web may be, as a setting.

import { isIP } from 'node:net'
import * as v from 'valibot'
import { CONTROL, isLocal, type Kind, type Problem, text, textSchema } from './kinds.ts'

/** Where keys are fetched: whoever could change them on the way could sign as anybody. */
export const keysUrl = text<string>('https://…, or http:// to this machine, or empty', (found) => {
  if (found === '') return ''
  const url = CONTROL.test(found) ? null : URL.parse(found)
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:') {
    return { problem: 'must be an address: https://…, or http:// to this machine' }
  }
  if (url.username !== '' || url.password !== '' || url.hash !== '') {
    return { problem: 'must be an address without a login and without #' }
  }
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const isHere = host === 'localhost' || (isIP(host) > 0 && isLocal({ host, port: 0 }))
  if (url.protocol === 'http:' && !isHere) {
    return { problem: 'must be https://: over plain http anybody on the way could put keys there' }
  }
  return found
})

const readOrigin = (found: string): string | Problem => {
  if (!/^https?:\/\/./.test(found)) return { problem: 'must begin with https:// or http://' }
  const url = /[\s*]/.test(found) ? null : URL.parse(found)
  if (!url) return { problem: 'must name one host, without * or blanks: list each' }
  if (url.origin === found) return found
  const rest = /^[a-z]+:\/\/[^/?#@]+(?<port>:\d+)?(?<more>[/?#@].*)?$/.exec(found)?.groups
  if (rest?.['more'] !== undefined)
    return { problem: 'must end with the host or its port: no path, no / behind it, no login' }
  return {
    problem:
      'must be written as browsers do: in lower case, a name beyond ASCII as xn--…, an address in its shortest form, and no port that the scheme has anyway',
  }
}

/** What browsers call this site. A Host does not say whether http or https was meant: each has one of them. */
export const origins: Kind<readonly string[]> = {
  expected: 'a list such as ["https://pbx.example.com"], each host once, as https or as http',
  schema: v.pipe(
    v.array(textSchema<string>(readOrigin)),
    v.check(
      (found) => new Set(found.map((one) => one.replace(/^https?/, ''))).size === found.length,
    ),
  ),
}
