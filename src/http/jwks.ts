// GET /.well-known/jwks.json: what others may verify our tokens with (RFC 7517 §5). Of a shared secret there is
// nothing that others may see, so a set of these alone is empty.

import { type Keyring, publicKeySet } from '../auth/keyring.ts'
import { json } from './reply.ts'
import type { Handler } from './request.ts'

// A new key should stand by for as long before it signs.
const CACHE = 'public, max-age=300'

export const createJwksHandler = (keyring: Keyring): Handler => {
  const reply = { ...json(200, publicKeySet(keyring)), cache: CACHE }
  return async () => reply
}
