// Refreshes and logouts at once, over and over, against the real daemon: where check-then-act would show.

import t from 'tap'

import { type Answer, bearer, startTestDaemon, V3 } from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t, { sections: { sessions: 'per_user = 0' } })
const refresh = (token: string): Promise<Answer> =>
  daemon.ask(`${V3}/auth:refresh`, {
    method: 'POST',
    headers: { Cookie: `refreshToken=${token}` },
  })
const nextOf = (answer: Answer): string =>
  /^refreshToken=([^;]*)/.exec(answer.header('set-cookie') ?? '')?.[1] ?? 'no cookie'
const accessOf = (answer: Answer): string =>
  (answer.json() as { data: { accessToken: string } }).data.accessToken

void t.test('fifty with one cookie all get the same successor, a hundred times', async (t) => {
  let { refresh: token } = await daemon.mikopbx()
  const before = await daemon.metric('postern_sessions')
  const odd: string[] = []
  for (let round = 0; round < 100; round++) {
    const answers = await Promise.all(Array.from({ length: 50 }, () => refresh(token)))
    const successors = new Set(answers.map(nextOf))
    if (answers.some(({ status }) => status !== 200)) odd.push(`round ${round}: not all succeeded`)
    if (successors.size !== 1) odd.push(`round ${round}: ${successors.size} successors`)
    if (successors.has(token)) odd.push(`round ${round}: nothing was rotated`)
    token = [...successors][0] ?? ''
  }
  t.same(odd, [])
  t.equal(await daemon.metric('postern_sessions'), before, 'no session was added')
  const last = nextOf(await refresh(token))
  daemon.clock.advance(31)
  t.equal((await refresh(last)).status, 200, 'one lives')
  t.equal((await refresh(token)).status, 401, 'and no other')
})

/** One login, two refreshes and a logout that race; what is open after the logout has answered. */
const race = async (): Promise<{ opened: number; refreshed: number }> => {
  const { access, refresh: token } = await daemon.mikopbx()
  const racing = [refresh(token), refresh(token)]
  const left = await daemon.ask(`${V3}/auth:logout`, { method: 'POST', headers: bearer(access) })
  if (left.status !== 200) throw new Error(`logout: ${left.status}`)
  const opens = async (answer: Answer): Promise<boolean> =>
    answer.status === 200 &&
    ((await daemon.check(accessOf(answer))).status === 204 ||
      (await refresh(nextOf(answer))).status === 200)
  const answers = await Promise.all(racing)
  const open = [
    (await daemon.check(access)).status === 204,
    (await refresh(token)).status === 200,
    ...(await Promise.all(answers.map(opens))),
  ]
  return {
    opened: open.filter(Boolean).length,
    refreshed: answers.filter(({ status }) => status === 200).length,
  }
}

void t.test('after a logout nothing opens that a refresh gave, two hundred times', async (t) => {
  let [opened, refreshed] = [0, 0]
  for (let round = 0; round < 200; round += 5) {
    for (const outcome of await Promise.all(Array.from({ length: 5 }, race))) {
      opened += outcome.opened
      refreshed += outcome.refreshed
    }
  }
  t.equal(opened, 0)
  t.comment(`${refreshed} of 400 refreshes came before their logout`)
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
