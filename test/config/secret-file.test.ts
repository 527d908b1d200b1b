import { join } from 'node:path'
import t from 'tap'
import { readSecretFile } from '../../src/config/secret-file.ts'

void t.test('a secret in a file of its own', (t) => {
  const folder = t.testdir({ good: ' s3cret \n', empty: '\n', folder: {} })
  t.equal(readSecretFile(join(folder, 'good'), 'store.password_file'), 's3cret')
  t.equal(readSecretFile('', 'store.password_file'), undefined, 'none is named')
  const rows = [
    ['empty', /empty: is empty: write the secret of store\.password_file into it$/],
    ['folder', /folder: cannot be read \(EISDIR\): see store\.password_file$/],
    ['none', /none: cannot be read \(ENOENT\): see store\.password_file$/],
  ] as const
  for (const [name, problem] of rows)
    t.throws(() => readSecretFile(join(folder, name), 'store.password_file'), {
      name: 'ConfigError',
      problems: [problem],
    })
  t.end()
})
