import t from 'tap'
import { ConfigError } from '../../src/config/config-error.ts'

void t.test('an error of the config is all of its problems, one a line', async (t) => {
  const error = new ConfigError(['f:1: a', 'f:2: b'])
  t.same(error.problems, ['f:1: a', 'f:2: b'])
  t.equal(error.message, 'f:1: a\nf:2: b')
  t.equal(error.name, 'ConfigError')
})
