// What a configuration says that is good and may not be meant: told, and never a reason not to start.

import { isForOwnCalls } from '../auth/grants.ts'
import { OWN_CALLS } from '../auth/pattern.ts'
import type { Config } from './config.ts'
import type { Problem } from './read.ts'

const READS_API = /^read:(?:api\/|\*\*?(?:\/|$))/
const ONCE_PRIVATE = /^(?:subscribe|publish):(?:users-state|active-calls)-\*/

/** What a role's grants gave in earlier versions and give no longer. */
const findLost = (grants: readonly string[]): string[] => {
  const lost: string[] = []
  // Before there was `write`, `read` let every method through: a role that relied on it may only look now.
  if (
    grants.some((grant) => READS_API.test(grant)) &&
    !grants.some((grant) => grant.startsWith('write:'))
  ) {
    lost.push(
      'may read below api/ and write nothing, so that POST, PUT and DELETE are refused there: add "write:api/**" where the role should change things',
    )
  }
  for (const grant of grants.filter((one) => ONCE_PRIVATE.test(one))) {
    const cure = grant.replace('-*', '-user-*')
    lost.push(`${grant} covers no user's private channel: add "${cure}" where it should`)
  }
  return lost
}

/** Own calls beside all calls: the narrower grant says what may not be meant. */
const findIdle = (grants: readonly string[]): string[] =>
  grants.filter(isForOwnCalls).flatMap((own) => {
    const wider = grants.find((one) => one === 'read:**' || one === own.replace(OWN_CALLS, '**'))
    return wider === undefined ? [] : [`${own} changes nothing beside ${wider}: remove one of them`]
  })

export const findWarnings = ({
  roles,
  calls,
}: Pick<Config, 'roles'> & { calls: Pick<Config['calls'], 'sources'> }): Problem[] => {
  const found = Array.from(roles).flatMap(([role, grants]) =>
    [...findLost(grants), ...findIdle(grants)].map((text) => ({
      path: ['roles', role, 'grants'],
      text: `roles.${role}.grants: ${text}`,
    })),
  )
  const isAsked = [...roles.values()].some((grants) => grants.some(isForOwnCalls))
  if (calls.sources.length > 0 && !isAsked) {
    found.push({
      path: ['calls', 'sources'],
      text: `calls.sources: changes nothing, since no role hears its own calls alone: write "read:recordings/${OWN_CALLS}" in place of "read:recordings/**" where one should`,
    })
  }
  return found
}
