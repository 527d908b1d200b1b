// What others may know of our keys, and for how long they may keep it.

import t from 'tap'
import { parseKeyring } from '../../src/auth/keyring.ts'
import { createJwksHandler } from '../../src/http/jwks.ts'
import { jwk, keySet } from '../fixtures/keys.ts'
import { pairOf } from '../fixtures/pairs.ts'
import { requestOf } from '../fixtures/daemon.ts'

void t.test(
  'public keys are shown and may be kept for five minutes; secrets are not',
  async (t) => {
    const pair = pairOf('ES256', 'e')
    for (const [keys, shown] of [
      [[jwk('h')], []],
      [[jwk('h'), pair.jwk], [pair.open]],
    ] as const) {
      const keyring = await parseKeyring(keySet(...keys))
      if ('problems' in keyring) throw new Error(keyring.problems.join())
      const reply = await createJwksHandler(keyring)(requestOf([]))
      t.match(reply, { status: 200, cache: 'public, max-age=300' })
      t.same(JSON.parse(reply.body ?? ''), { keys: shown })
    }
  },
)
