// A PBX's CDR within the unit's sandbox: with the rights that operating.md names it is read while its owner writes it, without
// them it is told by name, and nothing is left beside it.
import t from 'tap'

import { insertCall, TABLE } from '../fixtures/cdr.ts'
import { bootMachine, NODE, systemdMissing } from '../fixtures/systemd.ts'

const LIMIT = 600_000 // milliseconds: 10 s on an idle machine, but it may be shared
const FOLDER = '/var/spool/pbx'
const FILE = `${FOLDER}/cdr.db`

t.setTimeout(LIMIT)

void t.test('the CDR under systemd', { skip: systemdMissing(), timeout: LIMIT }, async (t) => {
  const { ask, until, journal } = await bootMachine(t)
  const pbx = `
    process.umask(0o027)
    const database = new (require('node:sqlite').DatabaseSync)('${FILE}')
    for (const sql of process.argv.slice(2)) database.exec(sql)
    setTimeout(() => database.close(), 1e6)`
  const config = [
    '[calls]',
    'sources = ["cdr"]',
    `cdr_file = "${FILE}"`,
    '[roles.user]',
    'grants = ["read:recordings/{own_calls}"]',
  ]
  const write = [`PRAGMA journal_mode=WAL`, TABLE, insertCall('a.wav')]
  await ask(`
    echo 'correct horse battery' | postern user add 201 --role user --password-stdin
    printf '%s\\n' '${config.join("' '")}' > /etc/postern/postern.toml
    groupadd pbx && useradd -g pbx pbx
    install -d -o pbx -g pbx -m 0750 ${FOLDER}
    cat > /tmp/pbx.cjs <<'END'
${pbx}
END
    chmod 644 /tmp/pbx.cjs
    setsid setpriv --reuid=pbx --regid=pbx --clear-groups ${NODE} /tmp/pbx.cjs ${write.map((sql) => `"${sql}"`).join(' ')} > /dev/null 2>&1 &
  `)
  await until(`test -s ${FILE}-wal`)
  await ask('systemctl start postern.socket postern-metrics.socket postern')
  const isRead = `curl -s http://127.0.0.1:9478/metrics | grep -x 'postern_cdr_load_success 1'`

  await t.test('without rights it runs, and says what it lacks', async (t) => {
    await until(`curl -s http://127.0.0.1:9478/metrics | grep -x 'postern_cdr_load_success 0'`)
    t.match(
      await journal('postern'),
      /cdr\.db: may not be read: add the user of the daemon to the group/,
    )
    t.match(
      await ask('setpriv --reuid=postern --regid=postern --clear-groups postern check-config 2>&1'),
      /may not be read: add the user of the daemon/,
    )
  })

  await t.test('in the group of the PBX it reads, and leaves nothing', async (t) => {
    await ask('usermod -aG pbx postern && systemctl restart postern')
    await until(isRead)
    t.match(await ask('postern doctor 2>&1 || true'), /cdr\.db: tells of 1 recordings/)
    t.equal(
      await ask(`stat -c '%a %U %n' ${FOLDER}/*`),
      ['', '-shm', '-wal'].map((end) => `640 pbx ${FILE}${end}`).join('\n'),
    )
  })
})
