// Two states of the file, and what happened to whom.
import t from 'tap'
import { diffUsers } from '../../src/users/diff-users.ts'

type State = Parameters<typeof diffUsers>[0]

const state = (...users: Partial<NonNullable<ReturnType<State['get']>>>[]): State =>
  new Map(
    users.map((user) => {
      const name = user.name ?? '201'
      const rest = { role: 'user', displayName: name, credential: 'a', disabled: false }
      return [name, { ...rest, ...user, name }]
    }),
  )

void t.test('changes', async (t) => {
  const cases: [
    what: string,
    before: State,
    after: State,
    changes: [string, string, string[]?][],
  ][] = [
    ['nothing', state({}), state({}), []],
    ['a new user', state({}), state({}, { name: '202' }), [['202', 'added']]],
    ['a new user, disabled', state(), state({ disabled: true }), [['201', 'added']]],
    ['a user gone', state({}, { name: '202' }), state({}), [['202', 'removed']]],
    ['disabled', state({}), state({ disabled: true }), [['201', 'disabled']]],
    ['enabled', state({ disabled: true }), state({}), [['201', 'enabled']]],
    ['password', state({}), state({ credential: 'b' }), [['201', 'password']]],
    ['a device more', state({}), state({ credentials: ['a', 'b'] }), []],
    ['a device less', state({ credentials: ['b', 'a'] }), state({}), [['201', 'password', ['b']]]],
    [
      'both devices',
      state({ credentials: ['a', 'b'] }),
      state({ credential: 'c', credentials: ['c', 'd'] }),
      [['201', 'password']],
    ],
    ['role', state({}), state({ role: 'admin' }), [['201', 'role']]],
    ['display name', state({}), state({ displayName: 'Anna' }), [['201', 'display_name']]],
    ['number', state({ number: '201' }), state({ number: '202' }), [['201', 'number']]],
    ['a number gone', state({ number: '201' }), state({}), [['201', 'number']]],
    ['order alone', state({}, { name: '202' }), state({ name: '202' }, {}), []],
    [
      'several at once',
      state({}, { name: '202' }),
      state({ name: '203' }, { role: 'admin', credential: 'b' }),
      [
        ['203', 'added'],
        ['201', 'password'],
        ['201', 'role'],
        ['202', 'removed'],
      ],
    ],
  ]
  for (const [what, before, after, changes] of cases)
    t.same(
      diffUsers(before, after),
      changes.map(([name, change, gone]) => ({ name, change, ...(gone && { gone }) })),
      what,
    )
})
