// Names what of package-lock.json this machine needs and is not in node_modules: npm leaves an optional package out
// without a word where it cannot be fetched, or where the Node that npm runs on is too old for it.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

type List = string | readonly string[]

interface Locked {
  version: string
  optional?: true
  os?: List
  cpu?: List
  libc?: List
}

/** As npm reads such a list: `!` excludes, and a list that names nothing else has all the others. */
const has = (list: List, mine: string): boolean => {
  const names = [list].flat()
  return (
    names.includes(mine) ||
    (!names.includes(`!${mine}`) && names.every((name) => name.startsWith('!')))
  )
}

const needs = ({ optional, os, cpu, libc }: Locked): boolean => {
  // Optional for every machine: a part of another optional package, and there or not with that one.
  if (optional && os === undefined && cpu === undefined && libc === undefined) return false
  return (
    has(os ?? [], process.platform) && has(cpu ?? [], process.arch) && has(libc ?? [], 'glibc') // as Node itself
  )
}

const isThere = (path: string, version: string): boolean => {
  try {
    const manifest = readFileSync(join(path, 'package.json'), 'utf8')
    return (JSON.parse(manifest) as { version: string }).version === version
  } catch {
    return false
  }
}

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
  packages: Record<string, Locked>
}
for (const [path, locked] of Object.entries(packages)) {
  if (path !== '' && needs(locked) && !isThere(path, locked.version)) {
    process.stdout.write(`${path.replace('node_modules/', '')}@${locked.version}\n`)
  }
}
