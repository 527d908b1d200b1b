// The cutter as systemd runs it, beside a real nginx: who reaches it, what it may, and how it comes and goes.
import t, { type Test } from 'tap'
import { bootMachine, systemdMissing, TREE } from '../fixtures/systemd.ts'

const LIMIT = 600_000 // milliseconds: 15 s on an idle machine, but it may be shared
const GONE = 'postern-cut.service' // ends by itself after 10 s

t.setTimeout(LIMIT)

// Orders from stdin, answers to stdout, as whoever runs it: perl is all that the machine is sure to have.
const ORDER = `use IO::Socket::UNIX;
my $s = IO::Socket::UNIX->new("/run/postern-cut.sock") or die "$!\\n";
print $s <STDIN>; $s->flush; shutdown $s, 1; print while <$s>`

// Holds a connection until it ends.
const VISITOR = `use IO::Socket::IP;
my $s = IO::Socket::IP->new(PeerPort => $ARGV[0], PeerHost => $ARGV[1] // "127.0.0.1", LocalPort => $ARGV[2] // 0) or die "$!\\n";
print $s "GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"; $s->flush; 1 while sysread $s, my $b, 9999`

// Accepts and stays, as the user that nginx's workers have.
const STRANGER = `use IO::Socket::INET;
my $l = IO::Socket::INET->new(Listen => 9, ReuseAddr => 1, LocalAddr => "127.0.0.1:$ARGV[0]") or die "$!\\n";
my @all; push @all, scalar $l->accept while 1`

void t.test('the cutter under systemd', { skip: systemdMissing(), timeout: LIMIT }, async (t) => {
  const machine = await bootMachine(t)
  const { run, ask, until, show } = machine
  for (const [name, program] of Object.entries({
    order: ORDER,
    visitor: VISITOR,
    stranger: STRANGER,
  }))
    await ask(
      `printf '%s\\n' '#!/usr/bin/perl' '${program}' > /usr/bin/${name} && chmod 755 /usr/bin/${name}`,
    )
  await ask('systemctl start nginx postern-cut.socket')

  const as = (user: string) => `setpriv --reuid ${user} --regid ${user} --clear-groups`
  const order = (lines: string): Promise<string> =>
    ask(`printf '%s\\n' '${lines}' | ${as('postern')} order`)
  const answerOf = async (line: string): Promise<string> => (await order(line)).split('\n')[1] ?? ''
  /** A new connection, as an order names it. */
  const visit = async (port = 80): Promise<string> => {
    await ask(
      `systemctl reset-failed visitor 2>/dev/null; systemd-run -q --unit=visitor visitor ${port}`,
    )
    const established = `ss -Htn state established sport = :${port}`
    await until(`${established} | grep -q .`)
    const [, , local = '', peer = ''] = (await ask(established)).split(/\s+/)
    return `${peer} ${local}`.replaceAll(':', ' ')
  }
  const cut = async (t: Test, ends: string): Promise<void> => {
    const cookie = /^1 ([0-9a-f]{16}) \d+$/.exec(await answerOf(`look 1 ${ends}`))?.[1]
    t.ok(cookie)
    t.equal(await answerOf(`cut 2 ${ends} ${cookie}`), '2 cut')
    await until('! systemctl is-active -q visitor')
  }
  const edit = async (unit: string, lines: string): Promise<void> => {
    const folder = `/etc/systemd/system/${unit}.d`
    await ask(`mkdir -p ${folder} && printf '[Service]\\n%s\\n' '${lines}' > ${folder}/test.conf
      systemctl daemon-reload && systemctl stop ${GONE} 2>/dev/null`)
  }

  await t.test('it is reached by the daemon’s user alone, and started by that', async (t) => {
    t.equal(await ask('stat -c "%a %U" /run/postern-cut.sock'), '600 postern')
    for (const user of ['www-data', 'daemon']) {
      const refused = await run(`${as(user)} order </dev/null`)
      t.match(refused.err, /^Permission denied$/m, user)
    }
    t.equal(await show(GONE, 'ActiveState'), 'inactive')
    t.match(await order('look 1 127.0.0.1 1 127.0.0.1 80'), /^postern-cut 1 [0-9a-f]{16}\n1 gone$/)
    t.equal(await show(GONE, 'ActiveState'), 'active')
  })

  await t.test('it has one right, and a user that is nobody else', async (t) => {
    const status = await ask(`cat /proc/$(systemctl show --value -p MainPID ${GONE})/status`)
    t.match(status, /CapPrm:\t0+1000\nCapEff:\t0+1000\nCapBnd:\t0+1000\n/)
    t.match(status, /NoNewPrivs:\t1\n[^]*Seccomp:\t2/)
    const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1])
    t.ok(uid >= 61_184 && uid <= 65_519, `${uid} is one of DynamicUser='s`)
  })

  await t.test('it cuts a visitor of nginx, and nginx serves the next', async (t) => {
    await cut(t, await visit())
    t.equal(await ask("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/"), '200')
    t.equal(await machine.journal('nginx | grep -ci alert || true'), '0')
  })

  await t.test(
    'a visitor of the link itself too: its sandbox lets it see the interfaces',
    async (t) => {
      await ask(`ip link add far type veth peer name near && ip link set far up && ip link set near up
      ip addr add fe80::7/64 dev near nodad
      systemctl reset-failed visitor 2>/dev/null; systemd-run -q --unit=visitor visitor 80 fe80::7%near 40000`)
      await until('ss -Htn state established sport = :80 | grep -q .')
      await cut(t, 'fe80::7 40000 fe80::7 80')
      await ask('ip link del far')
    },
  )

  await t.test(
    'a restart of nginx, whose control group is another then, changes nothing',
    async (t) => {
      const group = 'stat -c %i /sys/fs/cgroup/system.slice/nginx.service'
      const before = await ask(group)
      await ask('systemctl restart nginx')
      t.not(await ask(group), before)
      await cut(t, await visit())
    },
  )

  for (const unit of ['postern.service', 'postern@1.service']) {
    await t.test(`the sandbox of ${unit} lets it through`, async (t) => {
      await ask('touch /etc/postern/1.toml')
      await edit(
        unit,
        `Type=oneshot\nRestart=no\nWatchdogSec=0\nExecStartPre=\nExecStart=\nExecStart=sh -c "echo look 7 127.0.0.1 1 127.0.0.1 80 | order"`,
      )
      await ask(`systemctl start ${unit}`)
      t.match(await machine.journal(unit), /^7 gone$/m)
      await ask(
        `rm -r /etc/systemd/system/${unit}.d; systemctl stop 'postern*.socket'; systemctl daemon-reload; systemctl start postern-cut.socket`,
      )
    })
  }

  let theirs = ''
  await t.test(
    'another program of that user, on a port that is allowed, is not nginx',
    async (t) => {
      await edit(GONE, 'Environment="POSTERN_CUT_PORTS=80 8080 81"')
      await ask('systemd-run -q --unit=stranger --uid=www-data stranger 8080')
      await until('ss -Htln sport = :8080 | grep -q .')
      theirs = await visit(8080)
      t.equal(await answerOf(`look 1 ${theirs}`), '1 refused owner')
      t.equal(await answerOf(`cut 2 ${theirs} 0123456789abcdef`), '2 gone', 'not the cookie')
      t.equal(await answerOf(`look 3 ${theirs.replace(/8080$/, '22')}`), '3 refused port')
      t.match(
        await machine.journal(GONE),
        /^POSTERN_CUT_CGROUP=\/sys\/fs\/cgroup\/system\.slice\/nginx\.service: systemctl edit postern-cut$/m,
      )
    },
  )

  await t.test('where nginx runs otherwise nothing is cut, until it is told', async (t) => {
    await ask('systemctl stop nginx')
    t.equal(await answerOf(`look 1 ${theirs}`), '1 refused owner')
    t.match(
      await machine.journal(GONE),
      /^POSTERN_CUT_CGROUP=\S+nginx\.service, not there: systemctl edit/m,
    )
    await edit(GONE, 'Environment="POSTERN_CUT_PORTS=8080" POSTERN_CUT_CGROUP=none')
    await cut(t, theirs)
    const other = await visit(8080)
    await edit(
      GONE,
      'Environment="POSTERN_CUT_PORTS=8080" POSTERN_CUT_CGROUP=/sys/fs/cgroup/system.slice/stranger.service',
    )
    await cut(t, other)
    await ask('systemctl stop stranger; systemctl start nginx')
  })

  await t.test('an nginx in a container: by its network and its control group', async (t) => {
    await ask("systemd-run -q --unit=container -p PrivateNetwork=yes nginx -g 'daemon off;'")
    const pid = await show('container', 'MainPID')
    const there = `nsenter -t ${pid} -n`
    await until(`${there} ss -Htln sport = :80 | grep -q .`)
    await ask(`systemd-run -q --unit=visitor ${there} visitor 80`)
    const established = `${there} ss -Htn state established sport = :80`
    await until(`${established} | grep -q .`)
    const [, , local = '', peer = ''] = (await ask(established)).split(/\s+/)
    const ends = `${peer} ${local}`.replaceAll(':', ' ')

    const group = 'POSTERN_CUT_CGROUP=/sys/fs/cgroup/system.slice/container.service'
    await edit(GONE, `Environment=${group}`)
    t.equal(await answerOf(`look 1 ${ends}`), '1 gone', 'from outside')
    await edit(GONE, `Environment=${group}\nNetworkNamespacePath=/proc/${pid}/ns/net`)
    await cut(t, ends)
    await ask(
      `rm -r /etc/systemd/system/${GONE}.d; systemctl daemon-reload; systemctl stop container`,
    )
  })

  await t.test('without systemd, as in a container that has nginx and the daemon', async (t) => {
    const [, line = ''] =
      /`(systemd-socket-activate [^`]+)`/.exec(await ask(`cat ${TREE}/docs/operating.md`)) ?? []
    await ask(`systemctl stop postern-cut.socket
      systemd-run -q --unit=by-hand ${line.replaceAll('\n', ' ')}`)
    await until('test -S /run/postern-cut.sock')
    await ask('chown postern /run/postern-cut.sock')
    t.match(await order('look 1 127.0.0.1 1 127.0.0.1 80'), /^1 gone$/m)
    await cut(t, await visit())
    await ask('systemctl stop by-hand; systemctl start postern-cut.socket')
  })

  await t.test('a sandbox that takes its right away is told with the cure', async (t) => {
    await edit(GONE, 'PrivateUsers=yes')
    t.equal(await answerOf('look 1 127.0.0.1 1 127.0.0.1 80'), '1 refused denied')
    t.match(
      await machine.journal(GONE),
      /nothing can be cut \(Operation not permitted\): CAP_NET_ADMIN, no PrivateUsers=/,
    )
    await ask(
      `rm -r /etc/systemd/system/${GONE}.d; systemctl daemon-reload; systemctl stop ${GONE} 2>/dev/null`,
    )
  })

  await t.test('killed, it comes back; alone, it goes; asked, it is there again', async (t) => {
    const boot = async () => (await order('look 1 127.0.0.1 1 127.0.0.1 80')).split('\n')[0]
    const first = await boot()
    await ask(`for i in 1 2 3 4 5 6 7; do systemctl kill -s KILL ${GONE}; sleep 0.1; done`)
    t.not(await boot(), first)
    t.equal(await show('postern-cut.socket', 'ActiveState'), 'active')
    await until(`[ "$(systemctl show --value -p ActiveState ${GONE})" = inactive ]`)
    t.equal(await show(GONE, 'Result'), 'success')
    t.match(await boot(), /^postern-cut 1 /)
  })

  await t.test('who wants no such process has none, after one command', async (t) => {
    await ask(
      'systemctl enable -q postern-cut.socket && systemctl disable -q --now postern-cut.socket',
    )
    t.equal(await show(GONE, 'ActiveState'), 'inactive')
    t.match((await run('order </dev/null')).err, /^No such file or directory$/m)
  })
})
