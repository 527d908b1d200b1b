// Changes to the users file as text → text. Comments, empty lines, the order and all other lines stay byte for byte:
// the file belongs to the operator.
import { DISABLED, findUserProblem, isRemark } from './parse-users.ts'
import type { User } from './source.ts'

export type Edit = { text: string } | { refused: 'unknown_user' | 'already_there' }

const readName = (line: string): string | undefined => {
  const end = line.indexOf(':')
  return end < 0 || isRemark(line) ? undefined : line.slice(0, end)
}

const editLine = (
  text: string,
  name: string,
  change: (secret: string) => string | undefined,
): Edit => {
  let found = false
  const lines = text.split('\n').flatMap((line) => {
    if (readName(line) !== name) return [line]
    found = true
    const field = line.slice(name.length + 1)
    const end = field.search(/[:\r]|$/)
    const changed = change(field.slice(0, end))
    return changed === undefined ? [] : [`${name}:${changed}${field.slice(end)}`]
  })
  return found ? { text: lines.join('\n') } : { refused: 'unknown_user' }
}

/** An empty display name is the name. */
export const addUser = (
  text: string,
  user: Pick<User, 'name' | 'role' | 'displayName'> & { hash: string },
): Edit => {
  const problem = findUserProblem(user)
  // A bug of ours if it gets here: a line break in a name would write a second user, of any role.
  if (problem !== undefined) throw new Error(problem)
  if (text.split('\n').some((line) => readName(line) === user.name))
    return { refused: 'already_there' }

  const fields = [user.name, user.hash, user.role]
  if (user.displayName !== '') fields.push(user.displayName)
  const before = text === '' || text.endsWith('\n') ? text : `${text}\n`
  return { text: `${before}${fields.join(':')}\n` }
}

/** A disabled user stays disabled. */
export const setPassword = (text: string, name: string, hash: string): Edit =>
  editLine(text, name, (secret) => (secret.startsWith(DISABLED) ? DISABLED + hash : hash))

export const setDisabled = (text: string, name: string, disabled: boolean): Edit =>
  editLine(text, name, (secret) => {
    const hash = secret.startsWith(DISABLED) ? secret.slice(DISABLED.length) : secret
    return disabled ? DISABLED + hash : hash
  })

export const removeUser = (text: string, name: string): Edit =>
  editLine(text, name, () => undefined)
