// What a list shows of a user: everything but the hash.
import t from 'tap'
import { formatUsers, toUserRow } from '../../src/cli/user-list.ts'

const anna = {
  name: '201',
  role: 'user',
  displayName: 'Anna',
  credential: 'mark',
  stored: '$argon2id$secret',
  kind: 'argon2id' as const,
  weak: false,
  disabled: false,
}

void t.test('a row', async (t) => {
  const row = {
    name: '201',
    id: 1,
    role: 'user',
    display_name: 'Anna',
    disabled: false,
    hash: 'argon2id',
    flags: [],
  }
  t.same(toUserRow(anna, 1), row)
  t.same(toUserRow({ ...anna, disabled: true }, undefined), { ...row, id: null, disabled: true })
  t.same(toUserRow({ ...anna, kind: 'bcrypt', weak: true }, '1'), {
    ...row,
    id: null,
    hash: 'bcrypt',
    flags: ['bcrypt', 'weak'],
  })
})

void t.test('a table', async (t) => {
  t.equal(formatUsers([]), 'NAME  ID  ROLE  STATE  HASH  DISPLAY NAME')
  t.equal(
    formatUsers([
      toUserRow(anna, 12),
      toUserRow({ ...anna, name: 'someone', role: 'admin', weak: true, disabled: true }, undefined),
    ]),
    [
      'NAME     ID  ROLE   STATE     HASH             DISPLAY NAME',
      '201      12  user   enabled   argon2id         Anna',
      'someone  -   admin  disabled  argon2id (weak)  Anna',
    ].join('\n'),
  )
})
