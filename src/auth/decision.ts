// Why a request was refused. The list is closed: it is a metric label, a log field, an answer header
// and a table in docs/reference.md, so nothing that a stranger sends can ever become one.

export const REASONS = [
  'no_credential', // nothing was shown
  'invalid_request', // two credentials at once, or a repeated Authorization line (RFC 6750 §3.1)
  'malformed_token', // not a compact JWS of exactly our alphabet and header
  'unknown_key', // no key of ours has this kid
  'bad_signature',
  'wrong_type', // a refresh token, or another kind of JWT, where an access token belongs
  'bad_claims', // a claim is missing, or has the wrong type or size
  'wrong_issuer',
  'wrong_audience',
  'not_yet_valid', // iat or nbf lies in the future by more than the leeway
  'expired',
  'session_ended', // logout, a reused refresh token, an operator; of a machine key: it was removed
  'user_removed',
  'user_disabled',
  'unknown_machine_key', // well-formed, and none of ours: a guess
  'wrong_network', // a machine key, from elsewhere than it may be shown
  'unknown_role', // the token's role is not in the config
  'bad_action', // nginx named no action, two, or an unknown one
  'bad_resource', // nginx named no resource, two, or one that no grant may match
  'ticket_mismatch', // a ticket for something else
  'ticket_used', // a ticket to subscribe, shown a second time
  'cross_site', // a cookie sent because of another site's page
  'limit', // the session has as many live streams as it may, and opened all of them just now
  'unknown_call', // own calls are allowed, and nothing tells whose this is
  'no_grant', // the role does not allow it
] as const

export type Reason = (typeof REASONS)[number]

export interface Refusal {
  readonly refused: Reason
}

// One frozen object a reason: a flood of refusals allocates nothing.
const refusals = Object.fromEntries(
  REASONS.map((reason) => [reason, Object.freeze({ refused: reason })]),
) as Readonly<Record<Reason, Refusal>>

export const refuse = (reason: Reason): Refusal => refusals[reason]
