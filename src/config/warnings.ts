// What a configuration says that is good and may not be meant: told, and never a reason not to start.

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

export const findWarnings = ({ roles }: Pick<Config, 'roles'>): Problem[] =>
  Array.from(roles).flatMap(([role, grants]) =>
    findLost(grants).map((text) => ({
      path: ['roles', role, 'grants'],
      text: `roles.${role}.grants: ${text}`,
    })),
  )
