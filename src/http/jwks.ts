// GET /.well-known/jwks.json: what others may verify our tokens with (RFC 7517 §5). A shared
// secret is never shown, so with HS256 alone the set is empty.

import { type Keyring, publicKeySet } from '../auth/keyring.ts'
import { json } from './reply.ts'
import type { Handler } from './request.ts'

// A new key should stand by for at least as long before it signs.
const CACHE = 'public, max-age=300'

export const createJwksHandler = (keyring: Keyring): Handler => {
  const reply = { ...json(200, publicKeySet(keyring)), cache: CACHE }
  return async () => reply
}
