// How nginx serves the demo's page: by the lines that are shipped for a page to log in at, but at `/`.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const PAGE = join(import.meta.dirname, 'page')
const SHIPPED = join(import.meta.dirname, '..', 'nginx', 'postern-page.conf')

/** The page's files in a folder that nginx's workers can read, and the changes to the site that serve them. */
export const layOutPage = (folder: string): [from: string | RegExp, to: string][] => {
  // Written, not copied: a clone made under umask 077 has files that only their owner reads.
  mkdirSync(folder)
  for (const name of readdirSync(PAGE)) {
    writeFileSync(join(folder, name), readFileSync(join(PAGE, name)))
  }
  const shipped = readFileSync(SHIPPED, 'utf8')
    .replace('location ^~ /login/', 'location /')
    .replace('alias /usr/share/postern/page/', `root ${folder}`)
  return [
    [/^ {4}location \/ \{\n {8}return 404;\n {4}\}$/m, shipped],
    [/# (?=set \$postern_accept "header cookie")/, ''],
    ['# set $postern_login /login/;', 'set $postern_login /;'],
  ]
}
