// What a configuration says that is good and may not be meant: told, and never a reason not to start.

import type { Config } from './config.ts'
import type { Problem } from './read.ts'

const READS_API = /^read:(?:api\/|\*\*?(?:\/|$))/

/** Before there was `write`, `read` let every method through: a role that relied on it may only look now. */
export const findWarnings = ({ roles }: Pick<Config, 'roles'>): Problem[] =>
  Array.from(roles).flatMap(([role, grants]) =>
    grants.some((grant) => READS_API.test(grant)) &&
    !grants.some((grant) => grant.startsWith('write:'))
      ? [
          {
            path: ['roles', role, 'grants'],
            text: `roles.${role}.grants: may read below api/ and write nothing, so that POST, PUT and DELETE are refused there: add "write:api/**" where the role should change things`,
          },
        ]
      : [],
  )
