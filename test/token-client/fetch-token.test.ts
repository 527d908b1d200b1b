import t from 'tap'
import { fetchToken } from '../../src/token-client/fetch-token.ts'
import type { Settings } from '../../src/token-client/settings.ts'
import { answer, createToken, openCannedServer, silent } from '../fixtures/canned-server.ts'
import type { Canned } from '../fixtures/canned-server.ts'

const NOW = 1_700_000_000
const TOKEN = createToken({ userId: 'admin', exp: NOW + 900 })
const good = answer(
  200,
  { result: true, data: { accessToken: TOKEN }, messages: {} },
  { 'Content-Type': 'application/json; charset=utf-8', 'Set-Cookie': 'refreshToken=cafe' },
)
const tooMany = (seconds: string): string => answer(429, '', { 'Retry-After': seconds })

const table: {
  name: string
  answers: Canned[]
  expected: object
  waits: number[]
  timeout?: number
}[] = [
  { name: 'a token at once', answers: [good], expected: { token: TOKEN }, waits: [] },
  {
    name: '429 with a short wait, then a token',
    answers: [tooMany('3'), good],
    expected: { token: TOKEN },
    waits: [3],
  },
  {
    name: '429 that asks for no wait still gets a pause',
    answers: [tooMany('0'), good],
    expected: { token: TOKEN },
    waits: [0.5],
  },
  {
    name: '429 with a wait longer than the time-out',
    answers: [tooMany('11'), good],
    expected: { exit: 1 },
    waits: [],
  },
  {
    name: '429 without Retry-After',
    answers: [answer(429, ''), good],
    expected: { exit: 1 },
    waits: [],
  },
  { name: '429 for ever', answers: [tooMany('3')], expected: { exit: 1 }, waits: [3, 3] },
  {
    name: '502, then a token',
    answers: [answer(502, ''), good],
    expected: { token: TOKEN },
    waits: [0.5],
  },
  {
    name: '503 for ever: the pause doubles',
    answers: [answer(503, '')],
    expected: { exit: 2 },
    waits: [0.5, 1],
  },
  {
    name: 'a closed connection, then a token',
    answers: ['', good],
    expected: { token: TOKEN },
    waits: [0.5],
  },
  {
    name: 'the pause never exceeds the time-out',
    answers: [silent, good],
    expected: { token: TOKEN },
    waits: [0.2],
    timeout: 0.2,
  },
  {
    name: '500 is not asked again',
    answers: [answer(500, ''), good],
    expected: { exit: 2 },
    waits: [],
  },
  {
    name: '401 is not asked again',
    answers: [answer(401, '', { 'Content-Type': '<b>' }), good],
    expected: { exit: 1 },
    waits: [],
  },
  {
    name: 'HTML is not asked again',
    answers: [answer(200, '<html>'), good],
    expected: { exit: 3 },
    waits: [],
  },
]

for (const { name, answers, expected, waits, timeout = 10 } of table) {
  void t.test(name, async (t) => {
    const server = await openCannedServer(t, answers)
    const waited: number[] = []
    const explained: string[] = []
    const settings: Settings = {
      url: new URL(`http://127.0.0.1:${server.port}/v3/auth:login`),
      login: 'a b&c',
      password: 'p&%+ü#',
      timeout,
      retries: 2,
      insecure: false,
      trust: undefined,
      debug: false,
    }
    const verdict = await fetchToken(settings, {
      clock: {
        now: () => NOW,
        wait: async (seconds) => {
          waited.push(seconds)
        },
      },
      explain: (line) => {
        explained.push(line)
      },
    })
    t.match(verdict, expected)
    t.same(waited, waits)
    t.equal(server.requests.length, waits.length + 1)
    for (const request of server.requests) {
      const [head = '', body = ''] = request.split('\r\n\r\n')
      t.match(head, /^POST \/v3\/auth:login HTTP\/1\.1\r\n[^]*application\/x-www-form-urlencoded/)
      t.same(
        [...new URLSearchParams(body)],
        [
          ['login', 'a b&c'],
          ['password', 'p&%+ü#'],
          ['rememberMe', 'false'],
        ],
      )
    }
    const told = explained.join('\n')
    for (const secret of ['p&%+', 'p%26', '%C3%BC', TOKEN, 'cafe']) t.notOk(told.includes(secret))
  })
}
