// The `get-auth-token` command: hands the process to src/cli/get-auth-token.ts, and decides nothing.
// It ends by process.exit: a name that still resolves would keep the process alive past its time-out.

import { getAuthToken } from './cli/get-auth-token.ts'
import { systemClock } from './clock.ts'

const ignore = (): void => undefined
process.stdout.on('error', ignore) // the write's own callback tells
process.stderr.on('error', ignore) // a closed stderr must not cost the token

const code = await getAuthToken(process.argv.slice(2), process.env, {
  out: (text) =>
    new Promise((resolve) => {
      process.stdout.write(text, (error) => {
        resolve(!error)
      })
    }),
  err: (line) => {
    process.stderr.write(`${line}\n`)
  },
  clock: systemClock,
})
process.exit(code)
