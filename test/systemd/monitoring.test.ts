// A real Prometheus scrapes the real daemon and takes the shipped rules; a real fail2ban bans who guesses
// passwords, and nobody whose token has merely expired.

import { existsSync } from 'node:fs'
import t from 'tap'

import { bootMachine, systemdMissing, TREE } from '../fixtures/systemd.ts'

const BASE = '/pbxcore/api/module-softphone-backend/v1'
const LIMIT = 900_000 // milliseconds: 40 s on an idle machine, but it may be shared
const HOST = '203.0.113.1'
const ATTACKER = '203.0.113.7'
const CLIENT = '203.0.113.8'

const missing = (): string | false => {
  const obstacle = systemdMissing()
  if (obstacle !== false) return obstacle
  const wanted = ['/usr/bin/prometheus', '/usr/bin/fail2ban-server', '/usr/sbin/nft']
  const absent = wanted.filter((program) => !existsSync(program))
  if (absent.length === 0) return false
  const cure = `${absent.join(', ')}: not installed: script/setup --test installs them`
  if (process.env['CI'] === 'true') throw new Error(cure)
  return cure
}

t.setTimeout(LIMIT)

void t.test(
  'Prometheus and fail2ban beside the daemon',
  { skip: missing(), timeout: LIMIT },
  async (t) => {
    const machine = await bootMachine(t)
    const { ask, until, run } = machine
    await ask(`
    printf '[softphone]\\naccess_ttl = 1\\n' > /etc/postern/postern.toml
    echo 'correct horse battery' | postern user add 201 --role user --password-stdin
    mkdir -p /etc/nginx/postern /var/spool/asterisk/monitor
    echo sound > /var/spool/asterisk/monitor/call.mp3
    cp ${TREE}/nginx/postern-*.conf /etc/nginx/postern/
    rm -f /etc/nginx/sites-enabled/*
    cp ${TREE}/nginx/site.example.conf /etc/nginx/sites-enabled/postern
    for address in ${HOST} ${ATTACKER} ${CLIENT}; do ip addr add $address/32 dev lo; done
    rm -f /etc/fail2ban/jail.d/*
    cp ${TREE}/monitoring/fail2ban/filter.d/postern.conf /etc/fail2ban/filter.d/
    cp ${TREE}/monitoring/fail2ban/jail.d/10-postern.conf /etc/fail2ban/jail.d/`)

    await t.test('fail2ban starts beside a daemon that has never run', async (t) => {
      await ask('systemctl start fail2ban')
      await until('fail2ban-client ping')
      t.not((await run('fail2ban-client status postern')).status, 0, 'the jail is off as it comes')
      await ask(`
      sed -i 's/^enabled .*/enabled = true/' /etc/fail2ban/jail.d/10-postern.conf
      # All addresses are this machine's own here, which a jail spares unless told otherwise.
      printf '[postern]\\nignoreself = false\\n' > /etc/fail2ban/jail.d/zz-test.conf
      systemctl restart fail2ban`)
      await until('fail2ban-client status postern')
    })

    await ask(`
    systemctl start nginx postern.socket postern-metrics.socket`)
    await until('curl -sf --max-time 5 http://127.0.0.1:9478/readyz')

    await t.test('Prometheus scrapes it, and every rule is healthy', async (t) => {
      await ask(`
      mkdir -p /run/prom && cd /run/prom
      cp ${TREE}/monitoring/postern.rules.yml .
      { printf 'global:\\n  scrape_interval: 1s\\n  evaluation_interval: 1s\\n'; cat ${TREE}/monitoring/prometheus.example.yml; } > prometheus.yml
      systemd-run --unit=prom prometheus --config.file=/run/prom/prometheus.yml --storage.tsdb.path=/run/prom/data --web.listen-address=127.0.0.1:9090`)
      const query = (text: string): string =>
        `curl -sf --get --data-urlencode 'query=${text}' http://127.0.0.1:9090/api/v1/query`
      await until(`${query('postern_ready == 1 and on(instance) up == 1')} | grep -q '"value":\\['`)
      await until(
        `curl -sf http://127.0.0.1:9090/api/v1/rules | grep -q '"name":"PosternDown".*"health":"ok"'`,
      )
      const rules = await ask('curl -sf http://127.0.0.1:9090/api/v1/rules')
      t.notMatch(rules, /"health":"err"/)
      t.notMatch(
        await ask(query('ALERTS')),
        /PosternDown|PosternNotReady|PosternUsersBroken|PosternReloadFailed|PosternKickSocketAway/,
      )
      // What `apt purge` did: nginx listens on, and cannot be reached.
      await ask('rm /run/postern-nginx/kick.sock')
      await until(`${query('ALERTS{alertname="PosternKickSocketAway"}')} | grep -q '"value":\\['`)
      await ask('systemctl reload nginx && sleep 1 && test ! -e /run/postern-nginx/kick.sock')
      await ask('systemctl restart nginx')
      await until(`${query('postern_nchan_channels >= 0')} | grep -q '"value":\\['`)
    })

    await t.test('fail2ban bans the guesser and nobody else', async (t) => {
      const from = (address: string, path: string, more = ''): string =>
        `curl -s -o /dev/null -w '%{http_code}' --max-time 3 --interface ${address} ${more} http://${HOST}${path}`
      const login = (address: string, name: string, password: string): string =>
        from(
          address,
          `${BASE}/auth/login`,
          `--json '{"username":"${name}","password":"${password}"}'`,
        )

      const answer = await ask(
        `curl -s --interface ${CLIENT} --json '{"username":"201","password":"correct horse battery"}' http://${HOST}${BASE}/auth/login`,
      )
      const { access_token: token } = JSON.parse(answer) as { access_token: string }
      await ask('sleep 1.1')
      const recording = '/pbxcore/softphone/recordings/call.mp3'
      for (let time = 0; time < 20; time++) {
        t.equal(await ask(from(CLIENT, recording, `-H 'Authorization: Bearer ${token}'`)), '401')
      }
      for (let time = 0; time < 11; time++) {
        const { out } = await run(login(ATTACKER, `guess-${time}`, 'wrong'))
        t.match(out, /^(?:401|000)$/)
      }
      await until(`fail2ban-client status postern | grep -q 'Banned IP list:.*${ATTACKER}'`)
      const status = await ask('fail2ban-client status postern')
      t.match(status, new RegExp(`Banned IP list:\\s+${ATTACKER.replaceAll('.', '\\.')}\\s*$`))
      t.equal(
        (await run(from(ATTACKER, recording))).out,
        '000',
        'the attacker gets no answer any more',
      )
      t.equal(await ask(from(CLIENT, `${BASE}/health`)), '200', 'the late client does')
    })
  },
)
