// Whom a location needs no login of: by nginx's word alone, and never for a page of another site.
import t from 'tap'

import { readExemption } from '../../src/http/exemption.ts'
import { readHeaders } from '../../src/http/headers.ts'
import { createSite } from '../../src/http/site.ts'

const SITE = createSite([], 'auto')
const GET = ['X-Original-Method', 'GET']
const OFFICE = ['X-Auth-Exempt', 'office']
const OWN = ['X-Forwarded-Proto', 'https', 'X-Forwarded-Host', 'pbx.test']
const read = (lines: readonly string[], action: string | undefined = 'read', resource?: string) =>
  readExemption(readHeaders(lines), SITE, action, resource ?? 'app')?.exempt

void t.test('by one line of nginx, and for what could be granted', (t) => {
  t.equal(read([...OFFICE, ...GET]), 'office')
  t.equal(read(['X-Auth-Exempt', '-', ...GET]), '-')
  t.equal(read(['X-Auth-Exempt', Buffer.from('Офис').toString('latin1'), ...GET]), 'Офис')
  t.equal(read(GET), undefined)
  t.equal(read(['X-Auth-Exempt', '', ...GET]), undefined)
  t.equal(read([...OFFICE, ...OFFICE, ...GET]), undefined, 'two lines')
  t.equal(read([...OFFICE, ...GET], 'dance'), undefined)
  t.equal(readExemption(readHeaders([...OFFICE, ...GET]), SITE, undefined, 'app'), undefined)
  t.equal(readExemption(readHeaders([...OFFICE, ...GET]), SITE, 'read', undefined), undefined)
  t.equal(read([...OFFICE, ...GET], 'read', 'a/../b'), undefined)
  t.equal(read([...OFFICE, ...GET], 'subscribe', 'users-state'), 'office')
  t.equal(read([...OFFICE, ...GET], 'subscribe', 'me/users-state'), undefined, 'whose?')
  t.end()
})

void t.test('for no page of another site, but for its links and preflights', (t) => {
  const by = (method: string, ...lines: string[]) =>
    read([...OFFICE, ...OWN, 'X-Original-Method', method, ...lines])
  const foreign = ['Origin', 'https://evil.test']
  const crossSite = ['Sec-Fetch-Site', 'cross-site']
  const own = ['Origin', 'https://pbx.test', 'Sec-Fetch-Site', 'same-origin']
  for (const method of ['GET', 'HEAD', 'POST', 'PUT']) {
    t.equal(by(method), 'office', `${method} of no browser`)
    t.equal(by(method, ...own), 'office', `${method} of its own page`)
    t.equal(by(method, ...foreign), undefined, `${method} of another site`)
    t.equal(by(method, ...foreign, ...foreign), undefined, `${method}, two origins`)
    t.equal(by(method, 'Origin', 'null', ...crossSite), undefined, `${method} of no page`)
  }
  for (const method of ['GET', 'HEAD']) {
    const mode = (...values: string[]) => values.flatMap((value) => ['Sec-Fetch-Mode', value])
    t.equal(by(method, ...crossSite), 'office', 'of a browser that does not say how')
    t.equal(by(method, ...crossSite, ...mode('navigate')), 'office', 'a link')
    t.equal(by(method, ...crossSite, ...mode('no-cors')), undefined, 'a script, an image')
    t.equal(by(method, ...crossSite, ...mode('navigate', 'navigate')), undefined, 'two modes')
    t.equal(by(method, 'Sec-Fetch-Site', 'same-origin', ...mode('no-cors')), 'office', 'its own')
  }
  t.equal(by('POST', ...crossSite), undefined)
  t.equal(by('OPTIONS', ...foreign, ...crossSite), 'office', 'a preflight')
  t.equal(read([...OFFICE, ...OWN, ...foreign]), undefined, 'no method')
  t.end()
})
