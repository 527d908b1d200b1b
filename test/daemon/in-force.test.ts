// Whether what is live would be allowed today: by its grant, and by the key that admitted it.

import t from 'tap'

import type { IssuerKeys, TrustedIssuer } from '../../src/auth/issuer.ts'
import type { Keyring } from '../../src/auth/keyring.ts'
import { loadConfig } from '../../src/config/load.ts'
import { foreignName } from '../../src/auth/issuer.ts'
import { createTermsInForce } from '../../src/daemon/in-force.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { makePlace } from '../fixtures/postern.ts'
import { subscriptionOf } from '../store/sessions.ts'

const keyring = (...kids: string[]): Keyring =>
  ({ byKid: new Map(kids.map((kid) => [kid, { kid }])) }) as unknown as Keyring

const NO_KEYS = { grants: () => false, stands: () => false }

const streamOf = (kid: string, username = '201'): Subscription => ({
  ...subscriptionOf('kick', { username }),
  kid,
  worker: '',
})

const never = (): never => t.fail('no CDR is named') as never

const termsOf = (
  config: string,
  machineKeys: Parameters<typeof createTermsInForce>[3] = NO_KEYS,
): ReturnType<typeof createTermsInForce> =>
  createTermsInForce(loadConfig(config), keyring('a'), () => undefined, machineKeys, never)

void t.test('what is live is judged by what it was let in for', (t) => {
  const place = makePlace(t)
  const terms = termsOf(place.config)
  const allowed = (action: string | undefined, resource: string) =>
    terms.stillAllowed({ ...streamOf('a'), action, resource })
  t.ok(allowed('connect', 'sip'))
  t.ok(allowed(undefined, 'users-state'), 'a subscription')
  t.notOk(allowed('subscribe', 'sip'))
  t.notOk(allowed('', ''), 'what is not told apart')
  t.end()
})

void t.test('what a machine key has let in stands while it does', (t) => {
  const id = 'key_0123456789abcdef'
  let stands = true
  const machineKeys: Parameters<typeof createTermsInForce>[3] = {
    stands: (one) => stands && one === id,
    grants: (one, action, resource) => stands && `${one} ${action} ${resource}` === `${id} read x`,
  }
  const { config } = makePlace(t)
  const terms = termsOf(config, machineKeys)
  const allowed = (sid: string, username: string, given: Partial<Subscription>) =>
    terms.stillAllowed({ ...streamOf('a', username), sid, ...given })
  t.ok(terms.isForeign('key:board'))
  t.ok(allowed(id, 'key:board', { action: 'read', resource: 'x', kid: '' }))
  t.notOk(allowed(id, 'key:board', { action: undefined, resource: 'x' }), 'a subscription')
  t.ok(allowed(`${id}-1`, '201', { resource: 'users-state' }), 'in a user’s name')
  t.notOk(allowed(`${id}-1`, '201', { resource: 'x' }), 'the user may not')
  stands = false
  t.notOk(allowed(`${id}-1`, '201', { resource: 'users-state' }))
  t.notOk(allowed(id, 'key:board', { action: 'read', resource: 'x' }))
  t.end()
})

void t.test(
  'a user of another system hangs on no machine key, whatever the name of the session',
  (t) => {
    const place = makePlace(t, {
      'issuers.corp':
        'issuer = "https://sso.test"\naudience = "pbx"\njwks_url = "https://sso.test/jwks"\nrole_claim = "role"\nroles = ["staff=user"]',
    })
    const terms = termsOf(place.config)
    const stream = { ...streamOf('a', foreignName('corp', 'anna')), sid: 'key_0123456789abcdef' }
    t.ok(terms.stillAllowed({ ...stream, action: 'connect', resource: 'sip' }))
    t.end()
  },
)

void t.test('what a key has let in ends with it', (t) => {
  const place = makePlace(t)
  const terms = createTermsInForce(
    loadConfig(place.config),
    keyring('a', 'b'),
    () => undefined,
    { grants: () => false, stands: () => false },
    never,
  )
  const allowed = (kid: string, username?: string) => terms.stillAllowed(streamOf(kid, username))
  t.same(
    ['a', 'b', 'c', ''].map((kid) => allowed(kid)),
    [true, true, false, true],
  )

  terms.replace(terms.now(), keyring('c', 'a', 'b'), [])
  t.ok(allowed('') && allowed('c'), 'one more')
  terms.replace(terms.now(), keyring('c', 'a'), [])
  t.same(
    ['a', 'b', ''].map((kid) => allowed(kid)),
    [true, false, false],
    'it may be by any of them',
  )

  let known: ReturnType<IssuerKeys['current']>
  const issuer = { terms: { name: 'idp' }, keys: { current: () => known } }
  terms.replace(terms.now(), keyring('a'), [issuer as unknown as TrustedIssuer])
  t.ok(allowed('x', 'idp:201'), 'its keys are not known yet')
  known = new Map([['x', { kid: 'x' } as never]])
  t.same(
    ['x', 'a', ''].map((kid) => allowed(kid, 'idp:201')),
    [true, false, true],
  )
  known = new Map()
  t.notOk(allowed('x', 'idp:201'), 'withdrawn')
  t.ok(allowed('a'), 'our own are another matter')
  t.end()
})
