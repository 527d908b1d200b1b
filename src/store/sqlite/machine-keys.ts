// Machine keys: a row each, until long after its end.

import type { DatabaseSync } from 'node:sqlite'

import { KEEP_MACHINE_KEY, type MachineKey } from '../machine-key.ts'
import type { Row } from './rows.ts'

const toMachineKey = (row: Row): MachineKey => ({
  id: row['id'] as string,
  name: row['name'] as string,
  hash: row['hash'] as string,
  ...(JSON.parse(row['terms'] as string) as Pick<MachineKey, 'grants' | 'from'>),
  createdAt: row['created_at'] as number,
  until: row['until'] as number,
  removedAt: row['removed_at'] as number,
  usedAt: row['used_at'] as number,
  usedFrom: row['used_from'] as string,
})

export const createMachineKeys = (db: DatabaseSync) => {
  const insert = db.prepare('INSERT INTO machine_keys VALUES (?, ?, ?, ?, ?, ?, 0, 0, ?)')
  const selectAll = db.prepare('SELECT * FROM machine_keys ORDER BY name, created_at')
  const standing = 'WHERE name = ? AND removed_at = 0 AND until > ?'
  const selectStanding = db.prepare(`SELECT 1 FROM machine_keys ${standing}`)
  const shorten = db.prepare(`UPDATE machine_keys SET until = min(until, ?) ${standing}`)
  const remove = db.prepare(
    'UPDATE machine_keys SET removed_at = ? WHERE id = ? AND removed_at = 0',
  )
  const use = db.prepare('UPDATE machine_keys SET used_at = ?, used_from = ? WHERE id = ?')
  const deleteOld = db.prepare(
    'DELETE FROM machine_keys WHERE until <= ?1 OR removed_at BETWEEN 1 AND ?1',
  )
  return {
    listMachineKeys: () => selectAll.all().map(toMachineKey),
    addMachineKey(key: MachineKey, olderUntil?: number): boolean {
      const { id, name, hash, grants, from, createdAt, until } = key
      const stands = selectStanding.get(name, createdAt) !== undefined
      if (stands !== (olderUntil !== undefined)) return false
      if (olderUntil !== undefined) shorten.run(olderUntil, name, createdAt)
      insert.run(id, name, hash, JSON.stringify({ grants, from }), createdAt, until, '')
      return true
    },
    removeMachineKeys(ids: readonly string[], now: number): void {
      for (const id of ids) remove.run(now, id)
    },
    useMachineKey(id: string, now: number, address: string): void {
      use.run(now, address, id)
    },
    prune(past: number): void {
      deleteOld.run(past - KEEP_MACHINE_KEY)
    },
  }
}
