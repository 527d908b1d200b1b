// The units as files: what systemd itself says of them. Nothing is started here.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { bootMachine, systemdMissing } from '../fixtures/systemd.ts'

const UNITS = join(import.meta.dirname, '..', '..', 'systemd')
const skip = systemdMissing()

/** Without comments, which may differ. */
const settings = (name: string): string[] =>
  readFileSync(join(UNITS, name), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))

const ofOneInstance: readonly (readonly [instance: string, plain: string])[] = [
  ['Postern %i:', 'Postern:'],
  ['Requires=postern@%i.socket', 'Requires=postern.socket postern-metrics.socket'],
  ['Sockets=postern@%i.socket', 'Sockets=postern.socket postern-metrics.socket'],
  [' --config /etc/postern/%i.toml', ''],
  [' /etc/postern/%i.toml', ''],
  ['Directory=postern postern-%i', 'Directory=postern'],
  ['Also=postern@%i.socket', ''],
  ['SyslogIdentifier=postern-%i', 'SyslogIdentifier=postern'],
  ['/run/postern/%i.http.sock', '/run/postern/http.sock'],
  ['ListenStream=127.0.0.1:947%i', 'ListenStream=127.0.0.1:9478'],
  ['Service=postern@%i.service', 'Service=postern.service'],
  ['WantedBy=postern@%i.service', 'WantedBy=sockets.target'],
]

void t.test('the instance units differ from the plain ones in names alone', async (t) => {
  for (const [instance, plain] of [
    ['postern@.service', 'postern.service'],
    ['postern@.socket', 'postern.socket'],
    ['postern-metrics@.socket', 'postern-metrics.socket'],
  ] as const) {
    const renamed = settings(instance)
      .map((line) => ofOneInstance.reduce((text, [from, to]) => text.replace(from, to), line))
      .filter((line) => line !== '')
    t.same(renamed, settings(plain), instance)
  }
})

void t.test('systemd finds nothing wrong', { skip }, async (t) => {
  const machine = await bootMachine(t)
  const units = readdirSync(UNITS)
    .filter((name) => /\.(service|socket)$/.test(name))
    .map((name) => name.replace('@.', '@1.'))
  t.equal(units.length, 8)

  for (const unit of units) {
    await t.test(`${unit} has no unknown or wrong setting`, async (t) => {
      // The manual page comes with the package.
      const verified = await machine.run(
        `systemd-analyze verify --man=no --recursive-errors=yes ${unit}`,
      )
      t.same(verified, { status: 0, out: '', err: '' })
    })
  }

  const scores: readonly (readonly [title: string, unit: string, dropIn: string, most: number])[] =
    [
      ['the daemon', 'postern.service', '', 0.5],
      ['an instance', 'postern@1.service', '', 0.5],
      ['the cutter', 'postern-cut.service', '', 1.1],
      ['with outgoing TCP', 'postern.service', 'outgoing-tcp.conf', 1.1],
      ['with its key as a credential', 'postern.service', 'load-credential.conf', 0.5],
      ['with the socket of a Redis', 'postern.service', 'redis-socket.conf', 0.5],
      ['with the password of a Redis', 'postern.service', 'redis-password.conf', 0.5],
    ]
  for (const [title, unit, dropIn, most] of scores) {
    await t.test(`${title} is exposed no more than ${most}`, async (t) => {
      const folder = `/etc/systemd/system/${unit}.d`
      if (dropIn !== '') {
        await machine.ask(
          `mkdir -p ${folder} && cp /opt/postern/systemd/drop-ins/${dropIn} ${folder}`,
        )
        const verified = await machine.run(
          `systemd-analyze verify --man=no --recursive-errors=yes ${unit}`,
        )
        t.same(verified, { status: 0, out: '', err: '' })
      }
      const said = await machine.ask(
        `systemd-analyze security --offline=true --threshold=${most * 10} ${unit} | tail -1`,
      )
      const score = Number(/service: ([\d.]+)/.exec(said)?.[1])
      t.ok(score <= most, said)
      t.equal((await machine.run(`rm -rf ${folder}`)).status, 0)
    })
  }

  await t.test('systemd 253 and later take the drop-in for OpenFile=', async (t) => {
    const version = Number(/^systemd (\d+)/.exec(await machine.ask('systemctl --version'))?.[1])
    const folder = '/etc/systemd/system/postern.service.d'
    await machine.ask(
      `mkdir -p ${folder} && cp /opt/postern/systemd/drop-ins/open-file.conf ${folder}`,
    )
    const { status, err } = await machine.run(
      'systemd-analyze verify --man=no --recursive-errors=yes postern.service',
    )
    if (version >= 253) t.equal(status, 0, err)
    else t.match(err, /'OpenFile'/)
  })
})
