// What counts as covered or not: the product's source, by whichever test runs it in its own process. The tests in folders
// that src does not have (hosts, nginx, …) start it as processes, which are not counted: neither are they themselves.

import { existsSync, globSync } from 'node:fs'
import { dirname } from 'node:path'

const sources = globSync('src/**/*.ts').filter((file) => !file.endsWith('-worker.ts'))

export default (test) => (existsSync(dirname(test).replace(/^test/, 'src')) ? sources : null)
