// 201 hears their own calls and not another's: the real daemon, asked as nginx asks it, with users of a file and of a
// service.

import { createServer } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'
import {
  type Answer,
  bearer,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  V1,
} from '../fixtures/daemon.ts'

const DATED = '20261128-101500-1795860900'
const OF_201 = `recordings/2026/11/28/out-15551230202-201-${DATED}.12.wav`
const OF_202 = `recordings/2026/11/28/external-202-201-${DATED}.13.wav`
const OF_BOTH = `recordings/2026/11/28/internal-202-201-${DATED}.14.wav`
const QUEUE = `recordings/2026/11/28/q-400-201-${DATED}.15.wav`
const RENAMED = 'recordings/2026/11/28/Anna 201.wav'

const said = (answer: Answer): string => [answer.status, ...answer.all('X-Auth-Reason')].join(' ')

void t.test('by header, cookie and ticket', async (t) => {
  const daemon = await startTestDaemon(t, { sections: { calls: 'sources = ["names"]' } })
  const tokens = {
    '201': (await daemon.softphone('201')).access,
    '202': (await daemon.softphone('202')).access,
    '900': (await daemon.softphone('900')).access,
  }
  const byCookie = {
    'X-Auth-Action': 'read',
    'X-Auth-Accept': 'cookie',
    'Sec-Fetch-Site': 'same-origin',
  }
  const order = (token: string, resource: string): Promise<Answer> =>
    daemon.ask(`${V1}/auth/ticket`, {
      headers: { ...JSON_TYPE, ...bearer(token) },
      body: JSON.stringify({ action: 'read', resource }),
    })
  const byTicket = (ticket: string, resource: string): Promise<Answer> =>
    daemon.ask(`/check/${resource.replaceAll(' ', '%20')}`, {
      headers: {
        'X-Auth-Action': 'read',
        'X-Auth-Accept': 'ticket',
        'X-Original-URI': `/x?ticket=${ticket}`,
      },
    })
  for (const [resource, hears] of [
    [OF_201, ['201', '900']],
    [OF_202, ['202', '900']],
    [OF_BOTH, ['201', '202', '900']],
    [QUEUE, ['900']],
    [RENAMED, ['900']],
  ] as const) {
    for (const [user, token] of Object.entries(tokens)) {
      const may = (hears as readonly string[]).includes(user)
      const expected = may ? '204' : resource === RENAMED ? '403 unknown_call' : '403 no_grant'
      const what = `${user}: ${resource}`
      t.equal(said(await daemon.check(token, { resource })), expected, what)
      t.equal(said(await daemon.check(token, { resource })), expected, `${what}, remembered`)
      const cookie = await daemon.ask(`/check/${resource.replaceAll(' ', '%20')}`, {
        headers: { ...byCookie, Cookie: `postern=${token}` },
      })
      t.equal(said(cookie), expected, `${what}, by cookie`)
      const ticket = await order(token, resource)
      t.equal(ticket.status, may ? 200 : 403, `a ticket for ${what}`)
      if (may) t.equal(said(await byTicket(String(ticket.json()['ticket']), resource)), '204')
      const wide = await order(token, 'recordings/2026/**')
      t.equal(wide.status, 200, 'a ticket for a folder')
      const found = await byTicket(String(wide.json()['ticket']), resource)
      t.equal(said(found), expected, `${what}, by a ticket for its folder`)
    }
  }
  const refused = 'postern_decisions_total{action="read",result="refused",reason="unknown_call"}'
  t.ok((await daemon.metric(refused)) > 0)
  t.notMatch(await daemon.securityLog(), /unknown_call/, 'an honest client does this')
  t.match(await daemon.securityLog(), /MEDIA_ACCESS_DENIED\] no_grant/)

  // What decides is what is in force now, also for a token that is remembered and a ticket that was given.
  await daemon.reload({ calls: 'sources = []' })
  t.equal(said(await daemon.check(tokens['201'], { resource: OF_202 })), '204', 'as it was before')
  await daemon.reload({ calls: 'sources = ["names"]\nname_patterns = ["Anna {party}.wav"]' })
  t.equal(said(await daemon.check(tokens['201'], { resource: RENAMED })), '204')
  t.equal(said(await daemon.check(tokens['201'], { resource: OF_202 })), '403 no_grant')
})

/** MikoPBX with a prefix of its own, FreePBX's phone of the browser, Wazo. */
const PJSIP = [
  ['201', 'pbx201', '"Ann" <201>'],
  ['99202', '99202', 'Bob <202>'],
  ['k3x9qm', 'k3x9qm', '"Eve" <203>'],
]
  .map(
    ([endpoint, username, callerid]) =>
      `[${endpoint}]\ntype=endpoint\ncontext=phones\nauth=${endpoint}-auth\ncallerid=${callerid}\n[${endpoint}-auth]\ntype=auth\nusername=${username}\npassword=${PASSWORD}\n`,
  )
  .join('')

void t.test('login names that are no extensions, with numbers of caller ids', async (t) => {
  const folder = t.testdir({ 'pjsip.conf': PJSIP })
  const writer = startWriter(t, `${folder}/cdr.db`)
  await writer.run(
    TABLE,
    insertCall('a.mp3'),
    insertCall('b.mp3', '202').replace('PJSIP/202-', 'PJSIP/99202-'),
    insertCall('c.mp3', '99202'),
  )
  const daemon = await startTestDaemon(t, {
    sections: {
      calls: `sources = ["names", "cdr"]\ncdr_file = "${folder}/cdr.db"`,
      users: 'sources = ["asterisk"]',
      asterisk: `file = "${folder}/pjsip.conf"\nnumber_from = "callerid"`,
    },
  })
  const tokens: string[] = []
  for (const name of ['pbx201', '99202', 'k3x9qm']) {
    tokens.push((await daemon.softphone(name, PASSWORD)).access)
  }
  const hear = async (recording: string): Promise<string> => {
    const answers = tokens.map((token) =>
      daemon.check(token, { resource: `recordings/${recording}` }),
    )
    return (await Promise.all(answers)).map(({ status }) => status).join(' ')
  }
  for (let tries = 0; (await hear('a.mp3')).startsWith('403') && tries < 1000; tries++) {
    await pause(10)
  }
  t.equal(await hear('a.mp3'), '204 403 403')
  t.equal(await hear('b.mp3'), '403 403 403', 'a channel that is not called after the number')
  t.equal(await hear('c.mp3'), '403 403 403', 'a login name is no number then')
  t.equal(await hear(`external-201-202-${DATED}.12.wav`), '204 403 403')
  t.equal(await hear(`internal-202-203-${DATED}.12.wav`), '403 204 204')
  t.equal(await hear(`out-5551234-203-${DATED}.12.wav`), '403 403 204')
  t.equal(await hear(`out-5551234-99202-${DATED}.12.wav`), '403 403 403')
})

/** A service that knows one user, under a number that may change. */
const openService = async (t: Test) => {
  const known: { number: unknown } = { number: '201' }
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      const user = { name: 'anna', role: 'user', ...known }
      response.setHeader('Content-Type', 'application/json').end(JSON.stringify(user))
    })
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as { port: number }
  return { known, url: `http://127.0.0.1:${port}/` }
}

void t.test('a user of a service is heard of at login and refresh', async (t) => {
  const { known, url } = await openService(t)
  const daemon = await startTestDaemon(t, {
    sections: {
      calls: 'sources = ["names"]',
      users: 'sources = ["http"]',
      http_users: `login_url = "${url}"\nlookup_url = "${url}"`,
      softphone: 'rotate = true',
    },
  })
  const hears = async (token: string, resource: string): Promise<string> =>
    said(await daemon.check(token, { resource }))
  const login = await daemon.softphone('anna', PASSWORD)
  t.equal(await hears(login.access, OF_201), '204')
  t.equal(await hears(login.access, OF_202), '403 no_grant')

  known.number = '202'
  const refresh = (token: string): Promise<Answer> =>
    daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(token) })
  const { access_token: renewed } = (await refresh(login.refresh)).json()
  t.equal(await hears(String(renewed), OF_202), '204', 'as of the refresh')
  t.equal(await hears(String(renewed), OF_201), '403 no_grant')
  t.equal(await hears(login.access, OF_201), '204', 'the older token until it expires, as its role')

  const { access_token: replayed } = (await refresh(login.refresh)).json()
  t.equal(await hears(String(replayed), OF_202), '204', 'the same successor, and today’s number')

  for (const number of [201, '+201', null, '']) {
    known.number = number
    const odd = await daemon.softphone('anna', PASSWORD)
    t.equal(await hears(odd.access, OF_201), '403 no_grant', JSON.stringify(number))
    t.equal(await hears(odd.access, RENAMED), '403 no_grant')
  }
})
