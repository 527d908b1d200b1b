// Several instances on one machine and one Redis, set up as the heads of the shipped units and drop-ins say: what
// an operator does to them, and what nginx's clients notice of that.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { NEEDS_REDIS } from '../fixtures/redis.ts'
import { bootMachine, systemdMissing, TREE } from '../fixtures/systemd.ts'
import { underLoad } from './under-load.ts'

const UNITS = join(import.meta.dirname, '..', '..', 'systemd')
const BASE = '/pbxcore/api/module-softphone-backend/v1'
const RECORDING = 'http://127.0.0.1/pbxcore/softphone/recordings/call.mp3'
const LIMIT = 900_000 // milliseconds: a minute on an idle machine, but it may be shared
const SECRET = 'sesame-of-redis'
const ALL = ['1', '2', '3']

/** The lines of shell in a unit's head: what an operator would copy. */
const recipe = readFileSync(join(UNITS, 'postern@.service'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('#     '))
  .map((line) => line.slice(6))
  .join('\n')
  .replace(/\n\[state\][^]*/, '')
  .trim()

const DROP_INS = '/etc/systemd/system/postern@.service.d'
const skip = systemdMissing() || NEEDS_REDIS.skip

t.setTimeout(LIMIT)

void t.test('three instances on one Redis', { skip, timeout: LIMIT }, async (t) => {
  const machine = await bootMachine(t)
  const { run, ask, until, show } = machine
  const each = async (look: (name: string) => Promise<unknown>): Promise<unknown[]> =>
    Promise.all(ALL.map(look))
  const operator = (name: string, path: string): string =>
    `curl -s --max-time 5 --unix-socket /run/postern/${name}.operator.sock http://postern${path}`
  const allReady = async (): Promise<void> => {
    await each((name) => until(`test "$(${operator(name, '/readyz')})" = ready`))
  }
  const standing = (name: string): Promise<string> => show(`postern@${name}`, 'StatusText')
  const pids = (): Promise<unknown[]> => each((name) => show(`postern@${name}`, 'MainPID'))
  const status = (token: string): string =>
    `curl -s -o /dev/null -w '%{http_code}' --max-time 5 -H 'Authorization: Bearer ${token}' ${RECORDING}`
  const login = async (): Promise<string> => {
    const answer = await ask(
      `curl -s --json '{"username":"201","password":"correct horse battery"}' http://127.0.0.1${BASE}/auth/login`,
    )
    return (JSON.parse(answer) as { access_token: string }).access_token
  }

  await ask(`
    cp ${TREE}/postern.example.toml /etc/postern/postern.toml
    sed -i 's#^url = .*#url = "unix:///run/redis/redis-server.sock"#
            s#^password_file = .*#password_file = "/etc/postern/redis-password"#
            s#^nginx = .*#nginx = "this-one"#' /etc/postern/postern.toml
    install -m 640 -g postern /dev/null /etc/postern/redis-password
    echo '${SECRET}' > /etc/postern/redis-password
    printf '%s\\n' 'unixsocket /run/redis/redis-server.sock' 'unixsocketperm 770' 'requirepass ${SECRET}' \
      'appendonly yes' 'appendfsync always' >> /etc/redis/redis.conf
    mkdir -p ${DROP_INS} /etc/nginx/postern /var/spool/asterisk/monitor
    cp ${TREE}/systemd/drop-ins/redis-socket.conf ${DROP_INS}
    systemctl daemon-reload
    echo 'correct horse battery' | postern user add 201 --role user --password-stdin
    echo sound > /var/spool/asterisk/monitor/call.mp3
    cp ${TREE}/nginx/postern-*.conf /etc/nginx/postern/
    sed -i 's#^    server unix:/run/postern/http.sock max_fails=0;#${ALL.map(
      (name) => `    server unix:/run/postern/${name}.http.sock max_fails=0;\\n`,
    ).join('')}    least_conn;#' /etc/nginx/postern/postern-local.conf
    rm -f /etc/nginx/sites-enabled/*
    cp ${TREE}/nginx/site.example.conf /etc/nginx/sites-enabled/postern`)

  await t.test('the very first start waits for Redis, and says so', async (t) => {
    // The first instance makes the keys, and nobody can tell yet whether it is the first.
    const { status } = await run(recipe)
    t.not(status, 0)
    t.match(
      await machine.journal('postern@1'),
      /redis-server\.sock.*(?:start Redis|nothing listens)/,
    )
    await ask('systemctl start redis-server')
    await allReady()
    t.equal(
      await ask('stat -c "%a %U" /var/lib/postern/keys.json /var/log/postern/security.log'),
      '600 postern\n640 postern',
      'one of each for all',
    )
    await each(async (name) => {
      t.equal(await standing(name), 'deciding')
      for (const unit of [`postern@${name}.socket`, `postern@${name}`]) {
        t.equal(await ask(`systemctl is-enabled ${unit}`), 'enabled', unit)
      }
    })
    const config = await ask('diff /etc/postern/1.toml /etc/postern/2.toml | grep -c "^<"')
    t.equal(config, '2', 'lines that differ')
  })

  let token = ''
  await t.test('a login at one is a login at all', async (t) => {
    await ask('systemctl start nginx')
    token = await login()
    const load = await underLoad(machine, RECORDING, token, () => Promise.resolve())
    t.same(Object.keys(load.answered), ['200'], JSON.stringify(load.answered))
    await each(async (name) => {
      const passed = `${operator(name, '/metrics')} | grep 'postern_decisions_total{.*allowed'`
      t.match((await run(passed)).out, /\d{2,}$/m, `postern@${name} had its part`)
    })
  })

  await t.test('a logout at one is one at all', async (t) => {
    const other = await login()
    t.equal(await ask(status(other)), '200')
    await ask(
      `curl -sf -X POST -H 'Authorization: Bearer ${other}' http://127.0.0.1${BASE}/auth/logout`,
    )
    await ask('sleep 1.5') // the bound, where every message is lost
    for (let time = 0; time < 9; time++) t.equal(await ask(status(other)), '401')
  })

  await t.test('the daemon reaches no network, and Redis all the same', async (t) => {
    const [main] = await pids()
    t.match(await ask(`nsenter -t ${String(main)} -n ip -o link`), /^1: lo: [^\n]*$/)
  })

  await t.test('one reload is for all, and a broken configuration changes none', async (t) => {
    const before = await pids()
    const configure = (lines: string): Promise<string> =>
      ask(`for i in ${ALL.join(' ')}; do printf '${lines}' >> /etc/postern/$i.toml; done`)
    await configure('\\n[roles.nobody]\\ngrants = []\\n')
    t.same(await run("systemctl reload 'postern@*.service'"), { status: 0, out: '', err: '' })
    await each((name) =>
      until(`${operator(name, '/metrics')} | grep -q '^postern_config_last_reload_successful 1'`),
    )
    await configure('nonsense = 1\\n')
    t.not((await run("systemctl reload 'postern@*.service'")).status, 0)
    t.match(await machine.journal('postern@2'), /nonsense/)
    t.equal(await ask(status(token)), '200')
    t.same(await pids(), before)
    await ask("sed -i '/^nonsense/d' /etc/postern/[123].toml; systemctl reload 'postern@*.service'")
  })

  await t.test('restarts one after the other lose no request', async (t) => {
    const before = await pids()
    const { answered, slowest } = await underLoad(machine, RECORDING, token, async () => {
      for (const name of [...ALL, ...ALL]) await ask(`systemctl restart postern@${name}`)
    })
    t.same(Object.keys(answered), ['200'], JSON.stringify(answered))
    const now = await pids()
    for (const [at, pid] of now.entries()) t.not(pid, before[at])
    t.comment(`${answered['200']} requests over 6 restarts, none lost, the slowest ${slowest} s`)
  })

  await t.test('a restart of Redis costs no check', async (t) => {
    const { answered, slowest } = await underLoad(machine, RECORDING, token, async () => {
      await ask('systemctl restart redis-server && sleep 1 && systemctl restart redis-server')
      await allReady()
    })
    t.same(Object.keys(answered), ['200'], JSON.stringify(answered))
    t.comment(`${answered['200']} requests over 2 restarts, none lost, the slowest ${slowest} s`)
  })

  await t.test('an instance that is taken away costs no request', async (t) => {
    const { answered } = await underLoad(machine, RECORDING, token, async () => {
      await ask('systemctl disable -q --now postern@3.socket postern@3 && sleep 0.5')
    })
    t.same(Object.keys(answered), ['200'], JSON.stringify(answered))
    t.equal(await show('postern@3', 'ActiveState'), 'inactive')
    t.equal((await run('test -e /run/postern/3.http.sock')).status, 1)
    await ask('systemctl enable -q --now postern@3')
    await allReady()
  })

  await t.test('they start while Redis is down, and decide when it is there', async (t) => {
    await ask('systemctl stop redis-server')
    await ask("systemctl restart 'postern@*.service'")
    await each(async (name) => {
      t.equal(await show(`postern@${name}`, 'ActiveState'), 'active')
      t.match(await standing(name), /^the store is away: .*redis-server\.sock: .*start Redis/)
      t.notMatch(await ask(operator(name, '/readyz')), /^ready/)
    })
    t.equal(await ask(status(token)), '503', 'nothing is decided on nothing')
    const began = performance.now()
    await ask('systemctl start redis-server')
    await allReady()
    t.comment(
      `ready again after ${Math.round(performance.now() - began)} ms, the start of Redis included`,
    )
    t.equal(await ask(status(token)), '200')
    t.equal(await standing('1'), 'deciding')
  })

  await t.test('the journal says once what is wrong, its cure, and that it is over', async (t) => {
    const lines = (
      await ask(
        'journalctl -u postern@1 --no-pager -o cat _PID=$(systemctl show --value -p MainPID postern@1)',
      )
    )
      .split('\n')
      .filter((line) => line.includes('the shared store'))
    t.ok(lines.length >= 2 && lines.length <= 6, lines.join('\n'))
    t.match(lines[0], /start Redis/)
    t.match(lines.at(-1), /everything is known|in step/)
    t.notMatch(await ask("journalctl -u 'postern@*' --no-pager"), SECRET)
  })

  await t.test('metrics of each on a port of its own', async (t) => {
    await ask(`
      systemctl enable -q postern-metrics@1.socket postern-metrics@2.socket
      systemctl restart postern@1 postern@2`)
    for (const name of ['1', '2']) {
      await until(`test "$(curl -s --max-time 5 http://127.0.0.1:947${name}/readyz)" = ready`)
      t.match(
        await ask(`curl -s http://127.0.0.1:947${name}/metrics`),
        /^postern_store_state\{state="ok"\} 1$/m,
      )
    }
    // The head of the unit says how it gets another port.
    await ask(`
      mkdir -p /etc/systemd/system/postern-metrics@3.socket.d
      printf '[Socket]\\nListenStream=\\nListenStream=127.0.0.1:9500\\n' > /etc/systemd/system/postern-metrics@3.socket.d/port.conf
      systemctl daemon-reload
      systemctl enable -q postern-metrics@3.socket && systemctl restart postern@3`)
    await until('test "$(curl -s --max-time 5 http://127.0.0.1:9500/readyz)" = ready')
  })

  await t.test(
    'without the drop-in for its socket Redis is away, and the reason is said',
    async (t) => {
      await ask('systemctl start postern')
      t.match(await show('postern', 'StatusText'), /^the store is away: .*EACCES/)
      await ask('systemctl stop postern.socket postern-metrics.socket postern')
    },
  )

  await t.test('over TCP, with the password as a credential', async (t) => {
    const folder = '/etc/systemd/system/postern.service.d'
    await ask(`
      sed -i 's#^url = .*#url = "redis://127.0.0.1:6379"#
              s#^password_file = .*#password_file = "/run/credentials/postern.service/redis-password"#' /etc/postern/postern.toml
      install -d -m 700 /etc/postern-keys
      (umask 077; echo '${SECRET}' > /etc/postern-keys/redis-password)
      rm /etc/postern/redis-password
      mkdir -p ${folder}
      cp ${TREE}/systemd/drop-ins/redis-password.conf ${folder}
      systemctl daemon-reload
      systemctl start postern`)
    const closed = await show('postern', 'StatusText')
    t.match(closed, /^the store is away: .*EAFNOSUPPORT/, 'no network without the drop-in')
    await ask(
      `cp ${TREE}/systemd/drop-ins/outgoing-tcp.conf ${folder} && systemctl daemon-reload && systemctl restart postern`,
    )
    await until('test "$(curl -s --max-time 5 http://127.0.0.1:9478/readyz)" = ready')
    const check = `curl -s -o /dev/null -w '%{http_code}' --unix-socket /run/postern/http.sock -H 'Authorization: Bearer ${token}' \
      -H 'X-Auth-Action: read' -H 'X-Auth-Accept: header' http://postern/check/recordings/call.mp3`
    t.equal(await ask(check), '204', 'the token of the instances')
    t.notMatch(await machine.journal('postern'), SECRET)
    await ask(
      `systemctl stop postern.socket postern-metrics.socket postern; rm -r ${folder}; systemctl daemon-reload`,
    )
  })

  await t.test(
    'without a shared store two daemons on one folder are refused by its lock',
    async (t) => {
      await ask(`
      systemctl stop 'postern@*.socket' 'postern@*.service'
      rm -r /var/lib/postern
      : > /etc/postern/postern.toml
      printf '[listen]\\noperator = "unix:/run/postern/four.operator.sock"\\ncontrol = "/run/postern/four.control.sock"\\n' > /etc/postern/four.toml
      systemctl start postern`)
      t.equal(await show('postern', 'StatusText'), 'deciding')
      t.not((await run('systemctl start postern@four')).status, 0)
      t.match(await machine.journal('postern@four'), /store\.db is in use by another Postern/)
      t.equal(await show('postern', 'ActiveState'), 'active')
    },
  )
})

void t.test('the recipe is shell', (t) => {
  const { status, stderr } = spawnSync('sh', ['-n', '-c', recipe], { encoding: 'utf8' })
  t.equal(status, 0, stderr)
  t.match(
    recipe,
    /^for i in 1 2 3; do\n[^]*\ndone\nsystemctl enable --now postern@1 postern@2 postern@3$/,
  )
  t.end()
})
