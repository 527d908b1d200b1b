// What must be true once Redis has lost what it had acknowledged: every host says so, and believes nothing that
// was issued before.

import { setTimeout as pause } from 'node:timers/promises'
import type { Test } from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import { type Host } from './bed.ts'

export const PAST_THE_SECOND = 2100 // milliseconds: of the second of a loss no token is believed

/** Every host is ready, has said once what was lost, and refuses what was issued before. */
export const refusesOld = async (
  t: Test,
  hosts: readonly Host[],
  tokens: readonly string[],
): Promise<void> => {
  for (const host of hosts) {
    await until('the loss is noticed', async () => {
      const answers = await Promise.all(tokens.map((token) => host.check(token)))
      return answers.every((answer) => answer === '401 session_ended')
    })
    await until('it is ready', async () => (await host.ready()) === 200)
    const said = host.storeLines().filter((line) => line.includes('has lost data'))
    t.equal(said.length, 1, host.storeLines().join(' | '))
    t.equal(await host.metric('postern_store_state{state="ok"}'), 1)
  }
}

/** Once the second of the loss is over all is as it was. */
export const works = async (t: Test, hosts: readonly Host[]): Promise<void> => {
  await pause(PAST_THE_SECOND)
  for (const host of hosts) {
    const { access, refresh } = await host.login()
    for (const one of hosts) {
      await until(`${one.name} lets it in`, async () => (await one.check(access)) === '204')
    }
    t.equal((await patiently(() => host.refresh(refresh))).status, 200)
    t.equal(await host.logout(access), 200)
  }
}
