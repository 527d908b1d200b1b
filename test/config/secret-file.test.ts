import { join } from 'node:path'
import t from 'tap'
import { readSecretFile } from '../../src/config/secret-file.ts'

void t.test('a secret in a file of its own', (t) => {
  const folder = t.testdir({ good: ' s3cret \n', empty: '\n', folder: {} })
  t.equal(readSecretFile(join(folder, 'good'), 'store.password_file'), 's3cret')
  t.equal(readSecretFile('', 'store.password_file'), undefined, 'none is named')
  const rows = [
    ['empty', /^store\.password_file: .*empty is empty: write the secret into it$/],
    ['folder', /^store\.password_file: .*folder cannot be read \(EISDIR\)/],
    [
      'none',
      /^store\.password_file: .*none cannot be read \(ENOENT\): name a file that may be read$/,
    ],
  ] as const
  for (const [name, problem] of rows)
    t.throws(() => readSecretFile(join(folder, name), 'store.password_file'), {
      name: 'ConfigError',
      problems: [problem],
    })
  t.end()
})
