// The ways in which an nginx configuration undoes what Postern decides, each with its cure. They are facts of
// nginx and Nchan (measured), not of taste: what is named here lets somebody in, leaks, or falls over.

import type { Finding } from './finding.ts'
import { type Directive, walk } from './nginx-config.ts'

interface Place {
  location: Directive
  /** The directives in force there: its own first, then those of the blocks around it, innermost first. */
  inForce: readonly (readonly Directive[])[]
  parents: readonly Directive[]
}

/** A word of a directive; nginx itself refuses most that are too short, and the rest match nothing. */
const word = (args: readonly string[], at: number): string => args[at] ?? ''

const where = ({ file, line }: Directive): string => `${file}:${line}`

/** A simple directive, or none at all, has nothing inside. */
const insideOf = (directive: Directive | undefined): readonly Directive[] => directive?.block ?? []

const own = (block: Directive, name: string): Directive[] =>
  insideOf(block).filter((directive) => directive.name === name)

/** As nginx inherits most directives: the innermost block that has any wins. */
const effective = (place: Place, name: string): Directive[] => {
  for (const level of place.inForce) {
    const found = level.filter((directive) => directive.name === name)
    if (found.length > 0) return found
  }
  return []
}

const value = (place: Place, name: string): string | undefined => effective(place, name)[0]?.args[0]

const findPlaces = (config: readonly Directive[]): Place[] =>
  Array.from(walk(config))
    .filter(({ directive }) => directive.name === 'location')
    .map(({ directive, parents }) => ({
      location: directive,
      parents,
      inForce: [directive, ...parents.toReversed()].map(({ block = [] }) => block),
    }))

const isProtected = (place: Place): boolean => {
  const asked = value(place, 'auth_request')
  return asked !== undefined && asked !== 'off'
}

/** The location that asks the daemon: by the path it passes on to. */
const isCheck = (place: Place): boolean =>
  own(place.location, 'proxy_pass').some(({ args }) =>
    /^http:\/\/[^/]+\/check$/.test(word(args, 0)),
  )

const setsHeader = (place: Place, header: string, text?: string): boolean =>
  effective(place, 'proxy_set_header').some(
    ({ args }) =>
      args[0]?.toLowerCase() === header && (text === undefined || args.slice(1).join(' ') === text),
  )

/** What each module calls the lines that tell an application of headers: by their own name, or by CGI's. */
const LINES = {
  proxy: 'proxy_set_header',
  grpc: 'grpc_set_header',
  fastcgi: 'fastcgi_param',
  uwsgi: 'uwsgi_param',
  scgi: 'scgi_param',
} as const

interface Pass {
  by: keyof typeof LINES
  /** The application: `http://host:port` or a socket, without a path behind it. */
  to: string
}

const passOf = ({ location }: Place): Pass | undefined => {
  for (const by of Object.keys(LINES) as Pass['by'][])
    for (const { args } of own(location, `${by}_pass`)) {
      const to = word(args, 0)
      return { by, to: /^\w+:\/\/(?:unix:[^:]+|[^/$]+)/.exec(to)?.[0] ?? to }
    }
  return undefined
}

const serverOf = ({ parents }: Place): Directive | undefined =>
  parents.find(({ name }) => name === 'server')

const problem = (rule: string, at: Directive, text: string, cure: string): Finding => ({
  rule,
  state: 'problem',
  where: where(at),
  text,
  cure,
})

const UNSAFE =
  /\$(?:\{)?(?:uri|document_uri|request_uri|args|query_string|is_args|arg_\w+|http_\w+|request|request_filename)\b/

const checkLocation = (place: Place): Finding[] => {
  const { location } = place
  const found: Finding[] = []
  const expect = (rule: string, holds: boolean, text: string, cure: string): void => {
    if (!holds) found.push(problem(rule, location, text, cure))
  }
  expect(
    'check-internal',
    own(location, 'internal').length > 0,
    'anybody can ask the check location',
    'write `internal;` in it',
  )
  expect(
    'check-body-size',
    value(place, 'client_max_body_size') === '0',
    'an upload over 1 MB ends as a 500 of the check',
    'write `client_max_body_size 0;` in the check location',
  )
  expect(
    'check-body',
    value(place, 'proxy_pass_request_body') === 'off' && setsHeader(place, 'content-length', ''),
    'the check is sent a Content-Length without its body and hangs',
    'write `proxy_pass_request_body off;` and `proxy_set_header Content-Length "";`',
  )
  expect(
    'check-headers',
    value(place, 'proxy_pass_request_headers') === 'off',
    'headers of the client reach the check, X-Auth-Resource among them',
    'write `proxy_pass_request_headers off;` and set the few that postern-daemon.conf names',
  )
  expect(
    'check-http',
    value(place, 'proxy_http_version') === '1.1' && setsHeader(place, 'connection', ''),
    'every check opens a connection of its own (0.68 of the throughput)',
    'write `proxy_http_version 1.1;` and `proxy_set_header Connection "";`, and `keepalive` in the upstream',
  )
  const timeout = value(place, 'proxy_read_timeout') ?? '60s'
  const seconds = Number.parseInt(timeout, 10) / (timeout.endsWith('ms') ? 1000 : 1)
  expect(
    'check-timeout',
    seconds <= 10,
    'a daemon that hangs holds requests for a minute, and a kick gives up before its stream opens',
    'write `proxy_read_timeout 5s;`',
  )
  expect(
    'check-cache',
    (value(place, 'proxy_cache') ?? 'off') === 'off',
    'a decision is remembered: for another user, and beyond a logout',
    'write `proxy_cache off;` in the check location, as shipped',
  )
  for (const page of effective(place, 'error_page')) {
    if (page.args.some((arg) => /^=2\d\d$/.test(arg))) {
      found.push(
        problem(
          'error-page',
          page,
          'an error of the check becomes a pass',
          'write `error_page 599 @postern_failed;` in the check location, as shipped',
        ),
      )
    }
  }
  return found
}

const protectedLocation = (place: Place): Finding[] => {
  const { location } = place
  const found: Finding[] = []
  for (const directive of own(location, 'return')) {
    found.push(
      problem(
        'return',
        directive,
        '`return` answers before the check is asked: this location is open',
        'let a file, try_files or proxy_pass answer',
      ),
    )
  }
  for (const directive of own(location, 'rewrite')) {
    if (
      /^(?:redirect|permanent)$/.test(word(directive.args, 2)) ||
      /^https?:/.test(word(directive.args, 1))
    ) {
      found.push(
        problem(
          'return',
          directive,
          '`rewrite` to another address answers before the check is asked',
          'redirect in a location that is not protected',
        ),
      )
    }
  }
  if (value(place, 'satisfy') === 'any') {
    found.push(
      problem(
        'satisfy-any',
        location,
        'an allowed address passes without a check',
        'write `satisfy all;`, or leave it out',
      ),
    )
  }
  for (const directive of own(location, 'set')) {
    const [name = '', text = ''] = directive.args
    if (/^\$postern_(?:action|resource|accept)$/.test(name) && UNSAFE.test(text)) {
      found.push(
        problem(
          'set-uri',
          directive,
          `${name} is taken from what the client wrote: %0d%0a in it becomes a header of the check`,
          'use a capture of an allow-list: location ~ "^/files/(?<name>[A-Za-z0-9._/-]+)\\z"',
        ),
      )
    }
  }
  const [modifier = '', pattern = ''] = location.args
  const usesCapture = own(location, 'set').some(
    ({ args }) => args[0] === '$postern_resource' && /\$/.test(word(args, 1)),
  )
  if (usesCapture && modifier.startsWith('~') && !/^\^.*(?:\$|\\z)$/.test(pattern)) {
    found.push(
      problem(
        'unanchored',
        location,
        'the pattern fits in the middle of other paths',
        'begin it with ^ and end it with \\z',
      ),
    )
  }
  // nginx inherits no `set`: a location inside a protected one is asked about without any.
  const named = (name: string): boolean => own(location, 'set').some(({ args }) => args[0] === name)
  const asksUs = /postern/.test(String(value(place, 'auth_request')))
  if (asksUs && !(named('$postern_action') && named('$postern_resource'))) {
    found.push(
      problem(
        'unnamed',
        location,
        'says neither action nor resource: everything here is refused',
        'write `set $postern_action …; set $postern_resource …; set $postern_accept header;` before the include',
      ),
    )
  }
  return found
}

const IDENTITY = 'user role session expires action resource accept channel kick reason'
  .split(' ')
  .map((name) => `x-auth-${name}`)

/** Names that reach an application as the client wrote them. */
const claimedBy = (place: Place, by: Pass['by']): string[] => {
  if (value(place, `${by}_pass_request_headers`) === 'off') return []
  const lines = effective(place, LINES[by]).map(({ args: [name = '', text = ''] }) => ({
    name: name.toLowerCase().replaceAll('_', '-').replace('http-', ''),
    text,
  }))
  const claimed = IDENTITY.filter((header) => {
    const told = lines.filter(({ name }) => name === header)
    return told.length === 0 || told.some(({ text }) => text.startsWith('$http_'))
  })
  // Debian's fastcgi_params has it, and of two the last counts.
  const user = lines.findLast(({ name }) => name === 'remote-user')
  return user?.text === '$remote_user' ? [...claimed, 'REMOTE_USER'] : claimed
}

/** Applications that a client tells who it is: where they are protected, and where the same one is open. */
const findImpostors = (places: readonly Place[]): Finding[] => {
  const passing = places.flatMap((place) => {
    const pass = passOf(place)
    return pass && !isCheck(place) ? [{ place, ...pass, server: serverOf(place) }] : []
  })
  const guarded = passing.filter(({ place }) => isProtected(place))
  return passing
    .filter((one) => guarded.some(({ to, server }) => to === one.to && server === one.server))
    .flatMap(({ place, by }) => {
      const claimed = claimedBy(place, by)
      const file = by === 'proxy' ? 'identity' : by
      return claimed.length === 0
        ? []
        : [
            problem(
              'identity',
              place.location,
              `the client's own ${claimed.join(', ')} reaches the application`,
              `include postern/postern-${file}.conf in this location, after its ${LINES[by]} lines`,
            ),
          ]
    })
}

/** Patterns that answer for a protected prefix before it is looked at. */
const findOvertakers = (places: readonly Place[]): Finding[] => {
  const bare = (place: Place): boolean =>
    !isProtected(place) &&
    /^~\*?$/.test(word(place.location.args, 0)) &&
    own(place.location, 'internal').length + own(place.location, 'return').length === 0 &&
    !effective(place, 'deny').some(({ args }) => args[0] === 'all')
  const patterns = places.filter(bare)
  return places
    .filter((place) => isProtected(place) && word(place.location.args, 0).startsWith('/'))
    .flatMap((place) => {
      const path = word(place.location.args, 0)
      const first = patterns.find(({ location, parents }) => {
        const pattern = word(location.args, 1)
        const fits = !pattern.startsWith('^') || pattern.startsWith(`^${path}`)
        return fits && parents.at(-1) === place.parents.at(-1)
      })
      return first
        ? [
            problem(
              'overtaken',
              first.location,
              `answers what fits it below ${path}, without a check: a pattern comes before a prefix`,
              `write \`location ^~ ${path}\`, or protect this one too`,
            ),
          ]
        : []
    })
}

/** The site's own caches: whoever may ask is given what another user was shown. */
const findSharedCaches = (places: readonly Place[]): Finding[] =>
  places
    .filter((place) => isProtected(place) && !isCheck(place))
    .flatMap((place): Finding[] => {
      const cache = `${passOf(place)?.by}_cache`
      const [key] = effective(place, `${cache}_key`)
      return (value(place, cache) ?? 'off') === 'off' ||
        key?.args.some((text) => /\$postern_(?:user|session)/.test(text))
        ? []
        : [
            {
              rule: 'shared-cache',
              state: 'warning',
              where: where(place.location),
              text: "one user's answer is kept for every other",
              cure: `write \`${cache} off;\` in this location, or $postern_user in its ${cache}_key`,
            },
          ]
    })

const nchanLocation = (place: Place): Finding[] => {
  const { location } = place
  const found: Finding[] = []
  for (const directive of own(location, 'nchan_pubsub')) {
    found.push(
      problem(
        'nchan-pubsub',
        directive,
        'whoever may listen may publish too',
        'use nchan_subscriber and nchan_publisher in locations of their own',
      ),
    )
  }
  for (const directive of own(location, 'nchan_authorize_request')) {
    found.push(
      problem(
        'nchan-authorize',
        directive,
        'cannot hand over the kick id: such a stream outlives its session',
        'use auth_request, as in postern-softphone.conf',
      ),
    )
  }
  const isNamed = word(location.args, 0).startsWith('@')
  const subscribers = own(location, 'nchan_subscriber')
  if (subscribers.length > 0 && !isNamed && !isProtected(place)) {
    found.push(
      problem(
        'subscriber-open',
        location,
        'anybody can listen here',
        'protect it as in postern-softphone.conf',
      ),
    )
  }
  const ids = own(location, 'nchan_channel_id')
  if (
    subscribers.length > 0 &&
    ids.length > 0 &&
    !ids.some(({ args }) => args.includes('$postern_kick'))
  ) {
    found.push(
      problem(
        'no-kick',
        location,
        'a stream without a kick id cannot be ended',
        'write `nchan_channel_id "$postern_channel" "$postern_kick";`',
      ),
    )
  }
  const publishes = own(location, 'nchan_publisher').length > 0
  const isKick = word(location.args, location.args.length - 1).includes('kick-[')
  const guarded =
    effective(place, 'allow').length + effective(place, 'deny').length > 0 ||
    own(location, 'if').some(({ args }) => args.join(' ').includes('$postern_publisher')) ||
    isProtected(place)
  if (publishes && !isKick && !guarded) {
    found.push(
      problem(
        'publisher-open',
        location,
        'anybody can publish here',
        'write `allow 127.0.0.1; allow ::1; deny all;`, or take the shipped location',
      ),
    )
  }
  const exposed = insideOf(serverOf(place)).find(
    ({ name, args: [at = ''] }) => name === 'listen' && !at.startsWith('unix:'),
  )
  if (publishes && isKick && exposed) {
    found.push(
      problem(
        'kick-exposed',
        exposed,
        'streams can be ended over the network',
        'let the server of postern-kick.conf listen on a unix socket alone',
      ),
    )
  }
  return found
}

/** Locations that hand out files of a protected folder without asking. */
const findTwins = (places: readonly Place[]): Finding[] => {
  const folderOf = (place: Place): string | undefined =>
    own(place.location, 'alias')[0]?.args[0]?.replace(/\$postern_recording$/, '')
  const guarded = new Set(
    places
      .filter(isProtected)
      .map(folderOf)
      .filter((folder) => folder !== undefined),
  )
  const bare = (folder: string): string => folder.replace(/\/+$/, '')
  const known = new Set(Array.from(guarded, bare))
  return places
    .filter((place) => !isProtected(place) && own(place.location, 'internal').length === 0)
    .flatMap((place) => {
      const folder = folderOf(place)
      return folder !== undefined && known.has(bare(folder))
        ? [
            problem(
              'twin',
              place.location,
              'serves the folder of a protected location without a check',
              'protect it too, or remove it',
            ),
          ]
        : []
    })
}

const LOGS_QUERY =
  /\$(?:request\b|request_uri|args|query_string|http_referer|arg_(?:authorization|token|ticket))/

/**
 * Log formats in use that would write a token down: `combined`, which needs no definition, is one. A refusal, and so
 * a token that was shown where it does not count, is logged where @postern_401 stands.
 */
const findLeaks = (config: readonly Directive[], places: readonly Place[]): Finding[] => {
  const formats = new Map<string, string>([['combined', '$request $http_referer']])
  for (const { directive } of walk(config)) {
    const [name = '', ...text] = directive.args
    if (directive.name === 'log_format') formats.set(name, text.join(' '))
  }
  const seen = new Set<string>()
  return places
    .filter(
      ({ location }) =>
        word(location.args, 0) === '@postern_401' ||
        own(location, 'set').some(
          ({ args }) => args[0] === '$postern_accept' && /query|ticket/.test(word(args, 1)),
        ),
    )
    .flatMap((place) => effective(place, 'access_log'))
    .filter(
      (log) =>
        log.args[0] !== 'off' && LOGS_QUERY.test(String(formats.get(log.args[1] ?? 'combined'))),
    )
    .flatMap((log) => {
      if (seen.has(where(log))) return []
      seen.add(where(log))
      return [
        problem(
          'log-format',
          log,
          'tokens in a query are written to this log',
          'write `access_log … postern;`, the format of postern-http.conf, or leave the line out',
        ),
      ]
    })
}

const serverWide = (config: readonly Directive[]): Finding[] =>
  Array.from(walk(config)).flatMap(({ directive, parents }): Finding[] => {
    const parent = parents.at(-1)?.name
    const { name, args } = directive
    if (
      name === 'set' &&
      parent === 'server' &&
      /^\$postern_(?:action|resource|accept)$/.test(word(args, 0))
    ) {
      return [
        problem(
          'set-in-server',
          directive,
          'nginx runs this again for the check itself, which then asks for nothing',
          'set it in the location',
        ),
      ]
    }
    if (name === 'set_real_ip_from' && /^(?:0\.0\.0\.0\/0|::\/0)$/.test(word(args, 0))) {
      return [
        problem(
          'real-ip',
          directive,
          'anybody can claim any address, and so dodge the throttle',
          'name the address of your proxy',
        ),
      ]
    }
    if (`${name} ${args[0]}` === 'underscores_in_headers on') {
      return [
        problem(
          'underscores',
          directive,
          'X_Auth_User passes beside X-Auth-User, and applications confuse the two',
          'leave it off',
        ),
      ]
    }
    if (`${name} ${args[0]}` === 'ignore_invalid_headers off') {
      return [
        problem(
          'invalid-headers',
          directive,
          'X.Auth.User passes beside X-Auth-User, and to PHP the two are one',
          'leave it on',
        ),
      ]
    }
    if (name === 'nchan_channel_id_split_delimiter') {
      return [
        problem(
          'split',
          directive,
          'one request can name many channels, and only one is checked',
          'leave it out',
        ),
      ]
    }
    const isOurs = name === 'upstream' && /^postern$/.test(word(args, 0))
    if (isOurs && own(directive, 'keepalive').length === 0) {
      return [
        problem(
          'keepalive',
          directive,
          'every check opens a connection of its own',
          'write `keepalive 64;` in the upstream',
        ),
      ]
    }
    if (
      isOurs &&
      own(directive, 'server').some(({ args: server }) => !server.includes('max_fails=0'))
    ) {
      return [
        problem(
          'max-fails',
          directive,
          'after one failed connection nginx leaves the daemon out for ten seconds',
          'write `max_fails=0` behind the server',
        ),
      ]
    }
    return []
  })

/** Everything that is wrong, in the order of the configuration's parts; nothing: it holds what it promises. */
export const findTraps = (config: readonly Directive[]): Finding[] => {
  const places = findPlaces(config)
  const checks = places.filter(isCheck)
  const none: Finding[] =
    checks.length > 0
      ? []
      : [
          {
            rule: 'no-check',
            state: 'problem',
            where: 'nginx -T',
            text: 'no location asks Postern: nothing is protected',
            cure: 'include postern/postern-server.conf in server {}',
          },
        ]
  return [
    ...none,
    ...checks.flatMap(checkLocation),
    ...places.filter((place) => isProtected(place) && !isCheck(place)).flatMap(protectedLocation),
    ...findImpostors(places),
    ...findOvertakers(places),
    ...findSharedCaches(places),
    ...places.flatMap(nchanLocation),
    ...findTwins(places),
    ...findLeaks(config, places),
    ...serverWide(config),
  ]
}
