// nginx's configuration, as nginx itself reads it; nothing is judged but that it can be read.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

import { problem } from './finding.ts'
import { parseNginxDump } from './nginx-config.ts'

const linesOf = (text: string, level: string): string[] =>
  text.split('\n').filter((line) => line.includes(`[${level}]`))

/** The configuration as nginx itself reads it; saved text for where doctor may not run it. */
export const readNginx = (file: string | undefined) => {
  if (file !== undefined) {
    return { tree: parseNginxDump(readFileSync(file, 'utf8')), warnings: [] }
  }
  const { status, stdout, stderr } = spawnSync('nginx', ['-T'], { encoding: 'utf8' })
  // What nginx itself finds odd: a site that another one hides, for one.
  if (status === 0) return { tree: parseNginxDump(stdout), warnings: linesOf(stderr, 'warn') }
  // No text at all: it could not be started.
  const said = (stderr as string | null)?.trim() ?? ''
  const why = linesOf(said, 'emerg').join(' ') || said
  const cure =
    'mend what nginx names (`nginx -t`), and run doctor as root; or give the saved `nginx -T` by --nginx'
  return problem('nginx', 'nginx -T', why === '' ? 'nginx is not installed' : why, cure)
}
