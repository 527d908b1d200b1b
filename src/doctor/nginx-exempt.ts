// Locations that need no login of somebody: whether that opens more than was meant.

import type { Directive, Spot } from './nginx-config.ts'
import { inside, textOf, type Trap } from './nginx-spots.ts'

/** What a client writes as it likes. */
const CLAIMED =
  /\$\{?(?:http_|arg_|cookie_|(?:args|query_string|request_uri|uri|document_uri|host|remote_user|proxy_add_x_forwarded_for)\b)/
const ANYBODY = /^(?:0(?:\.0\.0\.0)?|::)\/0$/

const exemptionsOf = ({ directive }: Spot): Directive[] =>
  inside(directive, /^set \$postern_exempt /)

const valueOf = ({ args }: Directive): string => String(args.at(-1))

/** The geo and map blocks that an exemption's value comes from. */
const tablesOf = (spot: Spot, all: readonly Spot[]): Directive[] =>
  exemptionsOf(spot).flatMap((set) =>
    all
      .map(({ directive }) => directive)
      .filter(
        ({ name, args }) => (name === 'geo' || name === 'map') && args.at(-1) === valueOf(set),
      ),
  )

/** What a table looks at, and for geo whose word it takes for an address. */
const isClaimed = (table: Directive): boolean =>
  CLAIMED.test(textOf(table)) ||
  (table.name === 'geo' &&
    inside(table, /^proxy /).some(({ args: [network = ''] }) => ANYBODY.test(network)))

const ifClaimed = ({ directive }: Spot): Directive[] =>
  inside(directive, /^if /).filter(
    (one) => CLAIMED.test(textOf(one)) && inside(one, /^set \$postern_exempt ./).length > 0,
  )

const opensToAll = (table: Directive): Directive[] =>
  inside(table, /./).filter(({ name, args: [value = ''] }) => {
    const isAll = name === 'default' || (table.name === 'geo' && ANYBODY.test(name))
    return isAll && value !== '' && !value.startsWith('$')
  })

export const EXEMPT: readonly Trap[] = [
  {
    rule: 'exempt-claimed',
    find: (spot, all) => [
      ...exemptionsOf(spot).filter((set) => CLAIMED.test(valueOf(set))),
      ...tablesOf(spot, all).filter(isClaimed),
      ...ifClaimed(spot),
    ],
    text: 'who needs no login is what the client says of itself',
    cure: 'take the address: `geo $postern_office { default ""; 192.0.2.0/24 office; }`',
  },
  {
    rule: 'exempt-all',
    find: (spot, all) => [
      ...exemptionsOf(spot).filter((set) => /^[^$-]/.test(valueOf(set))),
      ...tablesOf(spot, all).flatMap(opensToAll),
    ],
    text: 'everybody passes without a login, not only who comes from a network',
    cure: 'name networks, with `default "";`; where everybody is meant, write `set $postern_exempt "-";`',
    isWarning: true,
  },
  {
    rule: 'exempt-early',
    find(spot) {
      const sets = exemptionsOf(spot)
      const last = sets.findLastIndex((set) => valueOf(set) === '')
      return sets.slice(0, last).filter((set) => valueOf(set) !== '')
    },
    text: 'has no effect: the include behind it takes it back',
    cure: 'write it behind `include postern/postern-protect.conf;`',
    isWarning: true,
  },
]
