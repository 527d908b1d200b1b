// The sources that the configuration names, which tell whose call a recording is of.

import { type Calls, createCalls } from '../calls/calls.ts'
import { createNames } from '../calls/names.ts'
import type { Config } from '../config/config.ts'

export const openCalls = ({ sources, namePatterns }: Config['calls']): Calls => {
  const open = { names: () => createNames(namePatterns) }
  return createCalls(sources.map((name) => open[name]()))
}
