// The order of the sources, and what a stranger costs.
import t from 'tap'
import { createDirectory } from '../../src/users/directory.ts'
import type { Authentication, Lookup, UserSource } from '../../src/users/source.ts'

const anna = { name: 'anna', role: 'user', displayName: 'Anna', credential: 'a' }
const other = { ...anna, role: 'admin' }

type Calls = string[]

function source(
  calls: Calls,
  answers: Partial<{ authentication: Authentication; lookup: Lookup; held: boolean }> = {},
): UserSource {
  const lookup = answers.lookup ?? { refused: 'unknown_user' }
  return {
    name: 'file',
    authenticate: async () => {
      calls.push('authenticate')
      return answers.authentication ?? { refused: 'unknown_user' }
    },
    lookup: async () => lookup,
    peek: () => (answers.held === false ? undefined : lookup),
    names: () => [],
    reread: async () => {
      calls.push('reread')
      return []
    },
    close: () => void calls.push('close'),
  }
}

void t.test('the first source that knows the name decides', async (t) => {
  const cases: [what: string, first: Authentication, expected: Authentication, hashes: number][] = [
    ['the right password', { user: anna }, { user: anna }, 0],
    ['a wrong one', { refused: 'wrong_password' }, { refused: 'wrong_password' }, 0],
    ['a disabled user', { refused: 'disabled' }, { refused: 'disabled' }, 0],
    ['a stranger', { refused: 'unknown_user' }, { user: other }, 0],
    [
      'a source that is away never hands over to the next',
      { unavailable: 'source_away', retryAfter: 5 },
      { unavailable: 'source_away', retryAfter: 5 },
      0,
    ],
    [
      'a full queue is a full queue',
      { unavailable: 'hash_queue_full', retryAfter: 2 },
      { unavailable: 'hash_queue_full', retryAfter: 2 },
      0,
    ],
  ]
  for (const [what, first, expected, hashes] of cases) {
    const calls: Calls = []
    const directory = createDirectory(
      [
        source(calls, { authentication: first }),
        source(calls, { authentication: { user: other } }),
      ],
      async () => void calls.push('decoy'),
    )
    t.same(await directory.authenticate('anna', 'secret'), expected, what)
    t.equal(calls.filter((call) => call === 'decoy').length, hashes)
  }
})

void t.test(
  'a name that nobody knows costs one hash, whatever the number of sources',
  async (t) => {
    const calls: Calls = []
    let hashed = false
    const directory = createDirectory([source(calls), source(calls)], async () => {
      calls.push('decoy')
      await Promise.resolve()
      hashed = true
    })
    t.same(await directory.authenticate('nobody', 'secret'), { refused: 'unknown_user' })
    t.same(calls, ['authenticate', 'authenticate', 'decoy'])
    t.ok(hashed, 'the answer waits for the hash')
  },
)

void t.test('a full queue answers strangers as it answers users', async (t) => {
  const directory = createDirectory([source([])], () => undefined)
  t.match(await directory.authenticate('nobody', 'secret'), { unavailable: 'hash_queue_full' })
})

void t.test('what cannot be a password is wrong for everybody, and costs nothing', async (t) => {
  const calls: Calls = []
  const directory = createDirectory(
    [source(calls, { authentication: { user: anna } })],
    async () => void calls.push('decoy'),
  )
  for (const password of ['', 'x'.repeat(1025), '\uD800'])
    t.same(await directory.authenticate('anna', password), { refused: 'wrong_password' })
  t.same(calls, [])
})

void t.test('looking up goes the same way', async (t) => {
  const away: Lookup = { unavailable: 'source_away' }
  const cases: [first: Lookup, expected: Lookup][] = [
    [{ user: anna }, { user: anna }],
    [{ refused: 'disabled' }, { refused: 'disabled' }],
    [{ refused: 'unknown_user' }, { user: other }],
    [away, away],
  ]
  for (const [first, expected] of cases) {
    const sources = [source([], { lookup: first }), source([], { lookup: { user: other } })]
    const directory = createDirectory(sources, () => undefined)
    t.same(await directory.lookup('anna'), expected)
    t.same(directory.peek('anna'), expected)
  }
  const empty = createDirectory([], () => undefined)
  t.same(await empty.lookup('anna'), { refused: 'unknown_user' })
  t.same(empty.peek('anna'), { refused: 'unknown_user' })
})

void t.test('peeking stops where only asking would tell', async (t) => {
  const sources = [
    source([], { lookup: { user: anna }, held: false }),
    source([], { lookup: { user: other } }),
  ]
  t.equal(createDirectory(sources, () => undefined).peek('anna'), undefined)
})

void t.test('names are those that the sources hold, each once', async (t) => {
  const sources = [
    { ...source([]), names: () => ['anna', 'bob'] },
    source([]),
    { ...source([]), names: () => ['bob', 'carl'] },
  ]
  t.same([...createDirectory(sources, () => undefined).names()], ['anna', 'bob', 'carl'])
})

void t.test('every source reads again and closes, also beside one that faults', async (t) => {
  const calls: Calls = []
  const broken = { ...source(calls), reread: () => Promise.reject(new Error('disk')) }
  const directory = createDirectory([broken, source(calls)], () => undefined)
  await t.rejects(directory.reread(true), { message: 'disk' })
  directory.close()
  t.same(calls, ['reread', 'close', 'close'])
  const sources: UserSource[] = [
    { ...source(calls), reread: async () => ['users:1: broken'] },
    { ...source(calls), name: 'asterisk' },
  ]
  const problems = await createDirectory(sources, () => undefined).reread(true)
  t.same([...problems], [['file', ['users:1: broken']]], 'those with which something is wrong')
})

void t.test('how many users each source holds; a service is asked, and holds none', async (t) => {
  const held = source([])
  const directory = createDirectory(
    [
      { ...held, names: () => ['a', 'b'] },
      { ...held, name: 'asterisk' },
      { ...held, name: 'http' },
    ],
    async () => undefined,
  )
  t.same(
    [...directory.countBySource()],
    [
      ['file', 2],
      ['asterisk', 0],
    ],
  )
})
