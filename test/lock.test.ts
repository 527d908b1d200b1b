// package-lock.json is what a set-up trusts: npm compares what it fetches with the hash there, and takes whatever
// comes where there is none.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const { packages } = JSON.parse(
  readFileSync(join(import.meta.dirname, '..', 'package-lock.json'), 'utf8'),
) as { packages: Record<string, { integrity?: string; resolved?: string }> }

const { '': own, ...others } = packages

void t.test('every package has a hash, and comes from whatever registry npm is set to', (t) => {
  t.ok(own && Object.keys(others).length > 0)
  const without = Object.entries(others).filter(
    ([, { integrity = '' }]) => !/^sha512-[A-Za-z0-9+/]{86}==$/.test(integrity),
  )
  t.same(without, [])
  t.same(
    Object.entries(others).filter(([, { resolved }]) => resolved !== undefined),
    [],
  )
  t.end()
})
