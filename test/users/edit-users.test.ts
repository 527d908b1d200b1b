// Edits of the users file: one line changes, everything else stays byte for byte.
import t from 'tap'
import { addUser, removeUser, setDisabled, setPassword } from '../../src/users/edit-users.ts'
import { findUserProblem } from '../../src/users/parse-users.ts'

const TEXT = '# staff\n201:old:user:Anna: A\n\n  # 202:commented:out\n202:!old\r\n\n900:old:admin'

void t.test('a password changes in its place, and a disabled user stays disabled', async (t) => {
  t.same(setPassword(TEXT, '201', 'new'), { text: TEXT.replace('201:old', '201:new') })
  t.same(setPassword(TEXT, '202', 'new'), { text: TEXT.replace('202:!old', '202:!new') })
  t.same(setPassword(TEXT, '900', 'new'), { text: TEXT.replace('900:old', '900:new') })
  t.same(setPassword('201:', '201', '$&$1'), { text: '201:$&$1' })
})

void t.test('disabling and enabling are each other undone, and may be repeated', async (t) => {
  const disabled = TEXT.replace('201:old', '201:!old')
  t.same(setDisabled(TEXT, '201', true), { text: disabled })
  t.same(setDisabled(disabled, '201', true), { text: disabled })
  t.same(setDisabled(disabled, '201', false), { text: TEXT })
  t.same(setDisabled(TEXT, '201', false), { text: TEXT })
})

void t.test('a removed user leaves the rest as it was', async (t) => {
  t.same(removeUser(TEXT, '201'), { text: TEXT.replace('201:old:user:Anna: A\n', '') })
  t.same(removeUser('201:a\n202:b\n201:c\n', '201'), { text: '202:b\n' }, 'every line of the name')
})

void t.test('a new user goes to the end, on a line of its own', async (t) => {
  const anna = { name: 'anna', hash: 'h', role: 'user', displayName: '' }
  t.same(addUser('', anna), { text: 'anna:h:user\n' })
  t.same(addUser('#\n', anna), { text: '#\nanna:h:user\n' })
  t.same(addUser(TEXT, { ...anna, displayName: 'A: B' }), { text: `${TEXT}\nanna:h:user:A: B\n` })
  t.same(addUser(TEXT, { ...anna, name: '202' }), { refused: 'already_there' })
})

void t.test('a name in a comment, or in another case, is nobody', async (t) => {
  for (const name of ['nobody', '# 202', '  # 202', '# staff', 'Anna', ''])
    for (const edit of [removeUser(TEXT, name), setPassword(TEXT, name, 'new')])
      t.same(edit, { refused: 'unknown_user' }, name)
})

void t.test('no field can write a second line, or hide in a comment', async (t) => {
  const anna = { name: 'anna', role: 'user', displayName: '' }
  t.equal(findUserProblem(anna), undefined)
  for (const bad of [
    { name: 'a\nroot:x:admin' },
    { name: 'a:b' },
    { name: '#anna' },
    { role: 'user\n900:x:admin' },
    { role: 'user:Anna' },
    { displayName: 'Anna\n900:x:admin' },
    { displayName: 'Anna\r' },
  ]) {
    t.type(findUserProblem({ ...anna, ...bad }), 'string', JSON.stringify(bad))
    t.throws(() => addUser('', { ...anna, hash: 'h', ...bad }))
  }
})
