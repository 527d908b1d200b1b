// Rows of the SQLite tables as the values they stand for: `userId` lies in `user_id`.

import type { SQLInputValue } from 'node:sqlite'

import type { LeftSubscription, Session } from '../store.ts'

export type Row = Record<string, unknown>

// In the order of the tables' columns.
const SESSION =
  'sid userId username role dialect credential language persistent createdAt expiresAt accessUntil seenAt address agent'
const SUBSCRIPTION = 'kick sid username userId role resource startedAt until address agent'

const createMapping = <Value extends object>(names: string) => {
  const columns = names
    .split(' ')
    .map((name) => [name, name.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`)] as const)
  return {
    toValue: (row: Row): Value =>
      Object.fromEntries(columns.map(([name, column]) => [name, row[column]])) as Value,
    toValues: (value: Value): SQLInputValue[] =>
      columns.map(([name]) => (value as Record<string, SQLInputValue>)[name] as SQLInputValue),
  }
}

const sessions = createMapping<Omit<Session, 'persistent'> & { persistent: number }>(SESSION)
const subscriptions = createMapping<LeftSubscription>(SUBSCRIPTION)

export const toSession = (row: Row): Session => {
  const session = sessions.toValue(row)
  return { ...session, persistent: session.persistent === 1 }
}
export const sessionValues = (session: Session): SQLInputValue[] =>
  sessions.toValues({ ...session, persistent: session.persistent ? 1 : 0 })

export const toLeftSubscription = subscriptions.toValue
