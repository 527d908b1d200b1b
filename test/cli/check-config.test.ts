// `postern check-config` as an operator meets it: what is printed where, and the exit code.

import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type * as command from '../../src/cli/check-config.ts'
import { checkConfig } from '../../src/cli/check-config.ts'
import { makePlace } from '../fixtures/postern.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { runCommand } from './run.ts'

const run = (...argv: string[]) => runCommand(checkConfig, argv)

void t.test('a good file is one line and exit 0', async (t) => {
  const { config } = makePlace(t)
  t.same(await run(config), { status: 0, out: `${config}: ok`, err: '' })
})

void t.test('a bad file is every problem on stderr and exit 78', async (t) => {
  const file = join(
    t.testdir({ 'bad.toml': '[log]\nlevel = 99\n[tokens]\nisuer = "x"\n' }),
    'bad.toml',
  )
  t.same(await run(file), {
    status: 78,
    out: '',
    err: [
      `${file}:2: log.level: must be one of "trace", "debug", "info", "warn", "error"`,
      `${file}:4: tokens.isuer: unknown setting: did you mean tokens.issuer?`,
    ].join('\n'),
  })
})

void t.test('a setting of an earlier version is a warning', async (t) => {
  const { config } = makePlace(t, { tokens: 'leeway = 1' })
  t.match(await run(config), {
    status: 0,
    out: `${config}: ok`,
    err: /^warning: .*toml:\d+: tokens\.leeway: no longer has an effect \(5 seconds\): remove it$/,
  })
})

void t.test('what is good and may not be meant is a warning with its line', async (t) => {
  const { config } = makePlace(t, { 'roles.admin': 'grants = ["read:**", "subscribe:**"]' })
  t.match(await run(config), {
    status: 0,
    out: `${config}: ok`,
    err: /^warning: .*toml:\d+: roles\.admin\.grants: .*add "write:api.*$/,
  })
})

void t.test('what every user of the host can write is exit 78 with the cure', async (t) => {
  const place = makePlace(t)
  t.equal((await run(place.config)).status, 0)
  chmodSync(place.at('users'), 0o666)
  t.match(await run(place.config), { status: 78, err: /users: has mode 666: .*chmod o-w/ })
  chmodSync(place.config, 0o646)
  t.match(await run(place.config), { status: 78, err: /postern\.toml: has mode 646: .*chmod o-w/ })
})

void t.test('without a file it asks about the one that the daemon reads', async (t) => {
  const { checkConfig: mocked } = await t.mockImport<typeof command>(
    '../../src/cli/check-config.ts',
    {
      '../../src/config/load.ts': {
        CONFIG_FILE: '/etc/postern/postern.toml',
        openConfig: () => ({ config: { store: { url: '' } }, warnings: [] }),
      },
      '../../src/daemon/judge.ts': { judgeConfig: async () => [] },
    },
  )
  t.match(await runCommand(mocked, []), { status: 0, out: '/etc/postern/postern.toml: ok' })
})

void t.test('a fault of the program is not passed off as one of the file', async (t) => {
  const { checkConfig: mocked } = await t.mockImport<typeof command>(
    '../../src/cli/check-config.ts',
    {
      '../../src/config/load.ts': {
        CONFIG_FILE: '/x',
        openConfig: () => {
          throw new TypeError('a bug')
        },
      },
    },
  )
  await t.rejects(runCommand(mocked, []), { message: 'a bug' })
})

void t.test('anything else is wrong usage and exit 64', async (t) => {
  for (const argv of [
    ['a', 'b'],
    ['--config', 'a'],
  ]) {
    t.match(await run(...argv), {
      status: 64,
      out: '',
      err: /\nusage: postern check-config \[FILE\]$/,
    })
  }
})

void t.test(
  'a shared store is looked at, and is no reason not to start',
  NEEDS_REDIS,
  async (t) => {
    const redis = await startRedis(t)
    const { configure, folder, config: file } = makePlace(t, { store: `url = "${redis.url}"` })
    const { status, out, err } = await run(file)
    t.same([status, out], [0, `${file}: ok`])
    t.match(err, /^warning: Redis forgets .*appendonly yes/)
    await redis.kill()
    t.match(await run(file), {
      status: 0,
      err: /^warning: the shared store is away: .*ECONNREFUSED/,
    })
    configure({ store: `url = "rediss://127.0.0.1"\nca_file = "${folder}/none"` })
    t.match(await run(file), { status: 78, out: '', err: /store\.ca_file: cannot be read/ })
    configure({ store: `url = "${redis.url}"\npassword_file = "${folder}/none"` })
    t.match(await run(file), {
      status: 78,
      out: '',
      err: /store\.password_file: .* cannot be read/,
    })
  },
)
