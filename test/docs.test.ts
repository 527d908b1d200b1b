// The documents say what is there, and what they say is there: their tables against the code, both ways.
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'

import { REASONS } from '../src/auth/decision.ts'
import { usageLines } from '../src/cli/command.ts'
import { COMMANDS } from '../src/cli/postern.ts'
import { formerSections, retired } from '../src/config/retired.ts'
import { settings } from '../src/config/schema.ts'
import { type SecurityEvent, STATUS } from '../src/http/reply.ts'
import { WHYS } from '../src/streams/means.ts'
import { openKickSocket } from './fixtures/kick-socket.ts'
import { checkHeaders, checkPath, login, makePlace, serve } from './fixtures/postern.ts'

const ROOT = join(import.meta.dirname, '..')
const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
const REFERENCE = readFileSync(join(ROOT, 'docs', 'reference.md'), 'utf8')

/** The cells of the tables under a heading, by row; a bar in a cell is written `\|`. */
const rowsUnder = (heading: string): string[][] => {
  const [, after] = REFERENCE.split(new RegExp(`^#{2,4} ${heading}$`, 'm'))
  if (after === undefined) return []
  const [section = ''] = after.split(/^#{1,4} /m)
  return section
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|[\s|:-]+$/.test(line))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
}

const unquote = (cell = ''): string => /^`([^`]*)`/.exec(cell)?.[1] ?? ''

/** First column → the other cells; rows whose key is no code are headings. */
const tableUnder = (heading: string): Map<string, string[]> =>
  new Map(
    rowsUnder(heading)
      .filter(([key]) => unquote(key) !== '')
      .map(([key, ...cells]) => [unquote(key), cells]),
  )

const same = (
  t: Pick<Test, 'same' | 'equal'>,
  heading: string,
  inCode: Iterable<string>,
): Map<string, string[]> => {
  const table = tableUnder(heading)
  t.same([...table.keys()].toSorted(), [...inCode].toSorted(), `## ${heading}`)
  const keys = rowsUnder(heading).map(([key]) => key)
  t.equal(new Set(keys).size, keys.length, `## ${heading}: no row twice`)
  return table
}
/** The table that the reference holds, word for word: what this prints where it differs is what belongs there. */
void t.test('why a stream cannot be cut is told with its cure', (t) => {
  const text = readFileSync(join(ROOT, 'docs', 'operating.md'), 'utf8')
  const [, table = ''] = /^\| why \|([^]*?)\n\n/m.exec(text) ?? []
  const told = Array.from(table.matchAll(/^\| (`[\w`, ]+`) \|/gm), ([, words]) => words)
  t.same(String(told).match(/\w+/g)?.toSorted(), Object.keys(WHYS).toSorted())
  t.end()
})

void t.test('who is told to switch the cutter off is told what goes with it', (t) => {
  // Else each stream counts as one that could not be cut, which raises an alert for good.
  const texts = globSync(
    ['*.md', 'docs/*.md', 'packaging/debian/NEWS', 'systemd/*.{service,socket}'],
    { cwd: ROOT },
  )
  const told = texts
    .flatMap((file) => readFileSync(join(ROOT, file), 'utf8').split(/\n\n|\n(?=[|[-])/))
    .filter((text) => /disable --now\s+postern-cut\.socket/.test(text.replaceAll('\n#', '')))
  t.ok(told.length > 0)
  for (const text of told) t.match(text, /end = "kick"[^]*reload postern[^]*reload nginx/)
  t.end()
})

void t.test('every setting, with its default and its words', async (t) => {
  const rows = settings.map(({ name, fallback, restart, explain }) => {
    // A table per entry stands in the example file, which has tests of its own.
    const isWhole = typeof fallback !== 'object' || Array.isArray(fallback)
    const standard = isWhole ? `\`${JSON.stringify(fallback)}\`` : 'see the file'
    return `| \`${name}\` | ${standard} | ${explain}${restart ? ' (restart)' : ''} |`
  })
  const [, section = ''] = REFERENCE.split('\n## Settings\n')
  const written = section.split('\n').filter((line) => line.startsWith('| `'))
  t.same(written, rows)
})

void t.test('every reason, with its status', async (t) => {
  const table = same(t, 'Reasons', REASONS)
  for (const reason of REASONS) t.equal(table.get(reason)?.[0], String(STATUS[reason]), reason)
})

void t.test('every metric of our own, and every header that the check answers with', async (t) => {
  const place = makePlace(t)
  await openKickSocket(t, place.at('kick.sock'))
  await serve(t, place)
  const page = (await place.operator('/metrics')).body
  const names = [...page.matchAll(/^# TYPE (postern_\w+)/gm)].map(([, name = '']) => name)
  t.ok(names.length > 10)
  same(t, 'Metrics', names)

  const { access } = await login(place.ask)
  const ask = async (token: string): Promise<Set<string>> => {
    const headers = {
      ...checkHeaders(token),
      'X-Auth-Action': 'subscribe',
      'X-Original-Resume': '||1795815721:[0],-',
    }
    const reply = await place.ask(checkPath('users-state'), { headers })
    return new Set(Object.keys(reply.headers).filter((name) => /^(?:x-auth|www)-/.test(name)))
  }
  const allowed = await ask(access)
  const refused = await ask('nonsense')
  t.ok(allowed.has('x-auth-user') && refused.has('x-auth-reason'))
  const table = tableUnder('Headers')
  const written = [...table.keys()].map((name) => name.toLowerCase())
  t.same(written.toSorted(), [...new Set([...allowed, ...refused])].toSorted(), '## Headers')
  for (const [name, [on = '']] of table) {
    t.equal(/204/.test(on), allowed.has(name.toLowerCase()), `${name} on 204`)
    t.equal(/401/.test(on), refused.has(name.toLowerCase()), `${name} on 401`)
  }
})

// The compiler keeps it complete.
const EVENTS: Readonly<Record<SecurityEvent['name'], true>> = {
  AUTH_SUCCESS: true,
  AUTH_FAILED: true,
  LOGOUT: true,
  MEDIA_ACCESS_DENIED: true,
  SUBSCRIBE_DENIED: true,
  REFRESH_REUSED: true,
  SESSION_ENDED: true,
  BANNED: true,
  MACHINE_KEY_ADDED: true,
  MACHINE_KEY_REMOVED: true,
  MACHINE_KEY_DENIED: true,
}

void t.test('every event of the security log', async (t) => {
  same(t, 'Security log', [...Object.keys(EVENTS), 'LEFT_OUT'])
})

void t.test('every command and verb, as its usage says', async (t) => {
  const usages = COMMANDS.flatMap(usageLines).map((line) => line.replace(' [--config FILE]', ''))
  const { bin } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    bin: Record<string, string>
  }
  const others = Object.keys(bin).filter((name) => name !== 'postern')
  const inCode = ['postern --version', ...usages, ...others]
  same(
    t,
    'Commands',
    inCode.map((line) => line.replaceAll('|', '\\|')),
  )
})

void t.test('every file of nginx/ that a site includes', async (t) => {
  const site = readFileSync(join(ROOT, 'nginx', 'site.example.conf'), 'utf8')
  const included = (text: string): string[] =>
    [
      ...new Set(
        [...text.matchAll(/^\s*include postern\/(postern-[a-z]+\.conf);/gm)].map(([, f = '']) => f),
      ),
    ].toSorted()
  const [, section = ''] = README.split(/^## From nothing to a protected recording$/m)
  t.same(
    included(section.split(/^#{2,3} /m)[0] ?? ''),
    included(site).filter((f) => f !== 'postern-protect.conf'),
  )
})

void t.test('README is read in minutes, and what it points to is there', (t) => {
  t.ok(README.split('\n').length <= 200, 'at most 200 lines: tables stand in docs/reference.md')
  const headingsOf = (file: string): string[] =>
    Array.from(readFileSync(file, 'utf8').matchAll(/^#{1,4} (.+)$/gm), ([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w -]/g, '')
        .replaceAll(' ', '-'),
    )
  for (const document of [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    ...globSync('docs/*.md', { cwd: ROOT }),
  ]) {
    const path = join(ROOT, document)
    for (const [, link = ''] of readFileSync(path, 'utf8').matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      const [target = '', heading] = link.split('#')
      const file = target === '' ? path : join(dirname(path), target)
      t.ok(existsSync(file), `${document}: ${link}`)
      if (heading !== undefined) t.ok(headingsOf(file).includes(heading), `${document}: ${link}`)
    }
  }
  t.end()
})

void t.test('the files that the architecture names are there', (t) => {
  const text = readFileSync(join(ROOT, 'docs', 'architecture.md'), 'utf8')
  for (const [, path = ''] of text.matchAll(/`([\w/<>*-]+\.(?:ts|conf|toml|md))`/g)) {
    if (path.includes('NAME')) continue // yours to choose
    const pattern = path.replace('<dialect>', '*')
    const found = globSync([pattern, `nginx/${pattern}`, `src/**/${pattern}`], { cwd: ROOT })
    t.not(found.length, 0, path)
  }
  t.end()
})

void t.test(
  'every test that SECURITY.md names is there, and one stands beside each attacker',
  (t) => {
    const text = readFileSync(join(ROOT, 'SECURITY.md'), 'utf8')
    t.ok(text.split('\n').length <= 200, 'read once, so at most 200 lines')
    const named = [...text.matchAll(/`(test\/[^`:]+)(?::\s([^`]+))?`/g)]
    t.ok(named.length > 40)
    for (const [, file = '', title] of named) {
      const path = join(ROOT, file)
      if (!existsSync(path)) t.fail(`${file} is gone`)
      else if (title !== undefined) {
        const words = title.replaceAll(/\s+/g, ' ')
        const source = readFileSync(path, 'utf8')
        const isThere = [`'${words}'`, `"${words}"`, `\`${words}\``].some((it) =>
          source.includes(it),
        )
        t.ok(isThere, `${file}: ${words}`)
      }
    }
    const [, attackers = ''] = text.split(/^## Who attacks.*$/m)
    const rows = attackers.split(/^## /m)[0]?.match(/^\| (?!who \|).*$/gm) ?? []
    t.ok(rows.length > 10)
    for (const row of rows) t.match(row, /\| `test\/[^|]+\|$/)
    t.end()
  },
)

void t.test('what an upgrade shows names every setting that means something else now', (t) => {
  const news = readFileSync(join(ROOT, 'packaging', 'debian', 'NEWS'), 'utf8')
  for (const name of Object.keys(retired)) t.match(news, name)
  for (const [now, before] of Object.entries(formerSections)) {
    t.match(news, `[${before}]`)
    t.match(news, `[${now}]`)
  }
  for (const line of news.split('\n')) t.ok(line.startsWith(' -- ') || line.length <= 80, line)
  t.end()
})
