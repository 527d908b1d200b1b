// What counts as covered or not: the product's source, whichever test ran it. The demo is run whole by its own
// test, in processes of its own.

import { globSync } from 'node:fs'

const sources = globSync('src/**/*.ts').filter((file) => !file.endsWith('-worker.ts'))

export default () => sources
