// The daemon as systemd runs it, behind a real nginx with the shipped files: what an operator does to it, and
// what its clients notice of that.
import t from 'tap'
import { bootMachine, systemdMissing, TREE } from '../fixtures/systemd.ts'
import { underLoad } from './under-load.ts'

const BASE = '/pbxcore/api/module-softphone-backend/v1'
const RECORDING = 'http://127.0.0.1/pbxcore/softphone/recordings/call.mp3'
const LIMIT = 900_000 // milliseconds: 25 s on an idle machine, but it may be shared

t.setTimeout(LIMIT)

void t.test('the daemon under systemd', { skip: systemdMissing(), timeout: LIMIT }, async (t) => {
  const machine = await bootMachine(t)
  const { run, ask, until, show } = machine
  const pid = (): Promise<string> => show('postern', 'MainPID')
  const door = (): Promise<string> => ask('stat -c "%a %U %G" /run/postern/http.sock')
  const isReady = 'curl -sf --max-time 5 http://127.0.0.1:9478/readyz'
  const configure = (line: string): Promise<string> =>
    ask(`printf '%s\\n' '${line}' > /etc/postern/postern.toml`)

  await ask(`
      echo 'correct horse battery' | postern user add 201 --role user --password-stdin
      mkdir -p /etc/nginx/postern /var/spool/asterisk/monitor
      echo sound > /var/spool/asterisk/monitor/call.mp3
      cp ${TREE}/nginx/postern-*.conf /etc/nginx/postern/
      rm -f /etc/nginx/sites-enabled/*
      cp ${TREE}/nginx/site.example.conf /etc/nginx/sites-enabled/postern
      systemctl start nginx`)

  await t.test('the sockets listen before the daemon runs', async (t) => {
    await ask('systemctl start postern.socket postern-metrics.socket')
    t.equal(await door(), '660 root www-data')
    t.equal(await ask('stat -c "%a %U %G" /run/postern'), '750 postern www-data')
    t.equal(await show('postern', 'ActiveState'), 'inactive')
  })

  let token = ''
  await t.test('the first request starts it and gets its answer', async (t) => {
    const answer = await ask(
      `curl -s --json '{"username":"201","password":"correct horse battery"}' http://127.0.0.1${BASE}/auth/login`,
    )
    token = (JSON.parse(answer) as { access_token: string }).access_token
    t.equal(await ask(`curl -s -H 'Authorization: Bearer ${token}' ${RECORDING}`), 'sound')
    t.equal(await ask(`curl -s -o /dev/null -w '%{http_code}' ${RECORDING}`), '401')
    t.equal(await ask(isReady), 'ready')
  })

  await t.test('it says that it is ready, and what it does', async (t) => {
    t.equal(await show('postern', 'ActiveState'), 'active')
    t.equal(await show('postern', 'StatusText'), 'deciding')
  })

  await t.test('keys, store and log are its own and closed to others', async (t) => {
    const folder = 'stat -c "%a %U %G" /var/lib/postern /var/log/postern'
    t.equal(await ask(folder), '700 postern postern\n750 postern postern')
    const files = await ask(
      'stat -c "%a %U %n" /var/lib/postern/keys.json /var/lib/postern/store.db /var/log/postern/security.log /run/postern/control.sock',
    )
    t.equal(
      files,
      [
        '600 postern /var/lib/postern/keys.json',
        '600 postern /var/lib/postern/store.db',
        '640 postern /var/log/postern/security.log',
        '600 postern /run/postern/control.sock',
      ].join('\n'),
    )
  })

  await t.test('the sandbox is in force, and hashing is niced within it', async (t) => {
    const main = await pid()
    t.equal(await ask(`ls /proc/${main}/root/home | wc -l`), '0')
    t.match(
      await ask(`cat /proc/${main}/status`),
      /CapEff:\t0+\n[^]*NoNewPrivs:\t1\n[^]*Seccomp:\t2/,
    )
    // Its own loopback and nothing else.
    t.match(await ask(`nsenter -t ${main} -n ip -o link`), /^1: lo: [^\n]*$/)
    t.notMatch(await machine.journal('postern'), /setpriority/)
  })

  await t.test('it alone reaches the socket on which nginx ends subscriptions', async (t) => {
    const kick = (user: string): string =>
      `nsenter -t ${inside} -m -n setpriv --reuid ${user} --regid ${user} --clear-groups \
        curl -s -o /dev/null --unix-socket /run/postern-nginx/kick.sock http://nginx/`
    const inside = await pid()
    t.equal((await run(kick('postern'))).status, 0)
    t.equal((await run(kick('www-data'))).status, 7, 'curl: failed to connect')
    t.match(await ask('postern doctor --json || true'), '"rule":"kick-socket","state":"ok"')
  })

  await t.test('a good reload is in force at once, and keeps process and sessions', async (t) => {
    const before = await pid()
    for (const [config, status] of [
      ['[roles.user]\ngrants = []', '403'],
      ['', '200'],
    ] as const) {
      await configure(config)
      t.same(await run('systemctl reload postern'), { status: 0, out: '', err: '' })
      t.equal(
        await ask(
          `curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer ${token}' ${RECORDING}`,
        ),
        status,
      )
    }
    t.equal(await show('postern', 'ActiveState'), 'active')
    t.equal(await pid(), before)
  })

  await t.test('a reload of a broken configuration fails and changes nothing', async (t) => {
    const before = await pid()
    await configure('nonsense = 1')
    t.not((await run('systemctl reload postern')).status, 0)
    t.equal(await pid(), before)
    t.equal(await show('postern', 'ActiveState'), 'active')
    t.equal(await show('postern', 'StatusText'), 'deciding')
    t.match(await machine.journal('postern'), /nonsense/)
    t.equal(await ask(`curl -s -H 'Authorization: Bearer ${token}' ${RECORDING}`), 'sound')
    await configure('')
    await ask('mv /etc/postern/users /etc/postern/moved')
    t.not((await run('systemctl reload postern')).status, 0, 'a users file that is gone')
    t.match(await machine.journal('postern'), /not reloaded[^]*users: no such file/)
    await ask('mv /etc/postern/moved /etc/postern/users && systemctl reload postern')
    await configure('[listen]\ncontrol = "/run/postern/other.sock"')
    t.not((await run('systemctl reload postern')).status, 0, 'its control socket is another now')
    t.match(await machine.journal('postern'), /other\.sock; .* restart it/)
    await configure('')
  })

  await t.test('stop, start and restart leave the sockets as they are', async (t) => {
    const inode = await ask('stat -c %i /run/postern/http.sock')
    for (const verb of ['stop', 'start', 'restart']) {
      await ask(`systemctl ${verb} postern`)
      t.equal(await door(), '660 root www-data', verb)
      t.equal(await ask('stat -c %i /run/postern/http.sock'), inode, verb)
    }
    t.equal(await ask(isReady), 'ready')
  })

  await t.test('restarts under load lose no request', async (t) => {
    const { answered, slowest } = await underLoad(machine, RECORDING, token, async () => {
      for (let round = 0; round < 5; round++) await ask('systemctl restart postern && sleep 0.2')
    })
    t.same(Object.keys(answered), ['200'], JSON.stringify(answered))
    t.comment(`${answered['200']} requests over 5 restarts, none lost, the slowest ${slowest} s`)
  })

  await t.test('a daemon that hangs is killed and replaced, unasked', async (t) => {
    await ask(`
        mkdir -p /run/systemd/system/postern.service.d
        printf '[Service]\\nWatchdogSec=1\\n' > /run/systemd/system/postern.service.d/watchdog.conf
        systemctl daemon-reload
        systemctl restart postern`)
    const before = await pid()
    // Pings keep it alive: more than one watchdog time passes here.
    await ask('sleep 2.5')
    t.equal(await pid(), before)
    await ask(`kill -STOP ${before}`)
    // Asked about its process alone, it may be the moment between the two: there is none then.
    await until(
      'test "$(systemctl show --value -p NRestarts postern)" = 1 && systemctl is-active -q postern',
    )
    t.not(await pid(), before)
    t.match(await machine.journal('postern'), /Watchdog timeout/)
    t.equal(await ask(isReady), 'ready')
    await ask('rm -r /run/systemd/system/postern.service.d && systemctl daemon-reload')
  })

  await t.test('a configuration broken at start and mended: a start heals it', async (t) => {
    await configure('nonsense = 1')
    await ask('systemctl stop postern')
    t.not((await run('systemctl start postern')).status, 0)
    await configure('')
    t.equal((await run('systemctl start postern')).status, 0)
    t.equal(await ask(isReady), 'ready')
  })

  await t.test('clients that keep asking a broken one take no socket down', async (t) => {
    await configure('nonsense = 1')
    await ask('systemctl stop postern')
    // More starts than systemd's default limit, 5 in 10 s, and not one more than RestartSec= allows.
    await run(
      'for i in 1 2 3 4 5 6 7 8; do curl -s --max-time 1 http://127.0.0.1:9478/readyz; done',
    )
    for (const unit of ['postern.socket', 'postern-metrics.socket']) {
      t.equal(await show(unit, 'ActiveState'), 'active', unit)
    }
    await configure('')
    // Nobody starts it.
    await until(isReady)
    t.equal(await door(), '660 root www-data')
  })

  await t.test('an instance runs beside it, with folders of its own', async (t) => {
    await ask(`cat > /etc/postern/two.toml <<'END'
[listen]
operator = "unix:/run/postern/two.operator.sock"
control = "/run/postern/two.control.sock"
[state]
directory = "/var/lib/postern-two"
[log]
security = "/var/log/postern-two/security.log"
END
systemctl start postern@two`)
    t.equal(await show('postern@two', 'StatusText'), 'deciding')
    t.equal(await show('postern', 'ActiveState'), 'active')
    t.equal(
      await ask('curl -sf --unix-socket /run/postern/two.operator.sock http://two/readyz'),
      'ready',
    )
    t.equal(await ask('stat -c "%a %U %G" /run/postern/two.http.sock'), '660 root www-data')
    t.equal(await ask('stat -c "%a %U" /var/lib/postern-two/keys.json'), '600 postern')
  })

  await t.test(
    'keys of root, handed over as a credential, verify the tokens of before',
    async (t) => {
      await ask(`
      install -d -m 700 /etc/postern-keys
      install -m 600 -o root -g root /var/lib/postern/keys.json /etc/postern-keys/
      rm /var/lib/postern/keys.json
      mkdir -p /run/systemd/system/postern.service.d
      cp ${TREE}/systemd/drop-ins/load-credential.conf /run/systemd/system/postern.service.d/
      systemctl daemon-reload
      systemctl restart postern`)
      t.equal(await ask(`curl -s -H 'Authorization: Bearer ${token}' ${RECORDING}`), 'sound')
      t.equal(await ask('stat -c %s /var/lib/postern/keys.json'), '0', 'no copy is left')
      t.match(await ask('postern check-config'), /: ok$/)

      const old = await pid()
      await ask(`
      rm -f /usr/sbin/policy-rc.d
      echo 'no TOML' > /etc/postern/never.toml
      systemctl start --no-block postern@never
      until systemctl is-active postern@never | grep -q activating; do sleep 0.1; done`)
      const upgrade = await run(`sh ${TREE}/packaging/debian/postinst configure 0.1.0 2>&1`)
      t.equal(upgrade.status, 0, upgrade.out)
      t.not(await pid(), old, 'an upgrade looks where the unit does, and at what runs')
      await ask('systemctl stop postern@never.socket postern@never; rm /etc/postern/never.toml')
      await ask('rm -r /run/systemd/system/postern.service.d && systemctl daemon-reload')
      await ask('systemctl stop postern && rm /var/lib/postern/keys.json') // the place that the key was laid over
    },
  )

  await t.test('a socket under a name that it does not know keeps it from starting', async (t) => {
    await ask(`
        mkdir -p /run/systemd/system/postern.socket.d
        printf '[Socket]\\nListenStream=/run/postern/more.sock\\n' > /run/systemd/system/postern.socket.d/more.conf
        systemctl daemon-reload
        systemctl stop postern postern.socket`)
    t.not((await run('systemctl start postern')).status, 0)
    t.match(await machine.journal('postern'), /a socket named http\.2/)
    await ask(`
        rm -r /run/systemd/system/postern.socket.d
        systemctl daemon-reload
        systemctl stop postern postern.socket`)
  })
})
