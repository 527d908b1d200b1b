// A release as its two readers meet it: whoever makes the folder, and apt on a booted machine that installs from it.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import t from 'tap'
import { needs } from './fixtures/needs.ts'
import { bootMachine, systemdMissing, TREE } from './fixtures/systemd.ts'
import { underLoad } from './systemd/under-load.ts'

const ROOT = join(import.meta.dirname, '..')
const LIMIT = 1_200_000 // milliseconds: a minute or two on an idle machine, but it may be shared
const OLDER = '0.0.9'

t.setTimeout(LIMIT)

const home = t.testdir({})
const folder = join(home, 'release')
// gpg-agent listens in it, and the name of a socket may not be as long as `home` is.
const gnupg = mkdtempSync(join(tmpdir(), 'postern-gpg-'))

/** In `home`, with the umask of a careful administrator. */
const sh = (script: string) =>
  spawnSync('bash', ['-c', `umask 077; ${script}`], {
    cwd: home,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    env: { ...process.env, GNUPGHOME: gnupg },
  })
const must = (script: string): string => {
  const { status, stdout, stderr } = sh(script)
  if (status !== 0) throw new Error(`${script} ended with ${status}\n${stdout}${stderr}`)
  return stdout
}
t.teardown(() => {
  sh('gpgconf --kill all')
  rmSync(gnupg, { recursive: true })
})

const release = `'${join(ROOT, 'script/release')}'`
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
  version: string
}
const TOOLS = ['dpkg-scanpackages', 'apt-ftparchive', 'gpg', 'gpg-agent']
const { skip } = needs(
  sh(`for tool in ${TOOLS.join(' ')}; do command -v $tool || exit; done`).status === 0,
  'script/setup --release',
)

void t.test('without a key that can sign it says how to make one', { skip }, async (t) => {
  const { status, stderr } = sh(release)
  t.equal(status, 64)
  const cure = stderr.split('\n').filter((line) => line.startsWith('  gpg '))
  t.equal(cure.length, 2)
  must(cure.join('\n')) // and makes FILE
  must(`
    gpg --armor --export >public
    gpg --batch --pinentry-mode loopback --passphrase sesame --quick-generate-key Locked ed25519 sign never
    gpg --batch --pinentry-mode loopback --passphrase sesame --armor --export-secret-keys Locked >locked
    cat FILE locked >two`)

  for (const [args, ended, says] of [
    ['--nonsense', 64, 'what is --nonsense?'],
    ['--key --quick', 64, '--key needs a value'],
    ['--key nowhere', 1, 'nowhere cannot be read'],
    ['--key public', 1, 'public cannot sign: it must hold one secret key'],
    ['--key two', 1, 'two cannot sign: it must hold one secret key'],
    ['--key locked', 1, 'locked cannot sign: gpg: signing failed'],
    ['--key FILE --out .', 1, 'would be published'],
  ] as const) {
    const { status, stdout, stderr } = sh(`${release} ${args}`)
    t.equal(status, ended, args)
    t.match(stderr, says)
    t.equal(stdout, '')
  }
})

void t.test(
  'the folder has all that was released, and no secret',
  { skip, timeout: LIMIT },
  async (t) => {
    must(`'${ROOT}/script/package' --quick --arch amd64 --version ${OLDER} --out '${folder}'`)
    t.equal(must(`${release} --key FILE --out release --quick`), `${folder}\n`)

    const packages = [`${OLDER}_amd64`, `${version}_amd64`, `${version}_arm64`]
    const made = [
      'InRelease',
      'Packages',
      'SHA256SUMS',
      'SHA256SUMS.asc',
      'postern-archive-keyring.gpg',
    ]
    const named = packages.flatMap((name) => [`postern_${name}.cdx.json`, `postern_${name}.deb`])
    t.same(readdirSync(folder).toSorted(), [...made, ...named].toSorted())
    for (const file of readdirSync(folder)) {
      t.equal(statSync(join(folder, file)).mode & 0o777, 0o644, `${file}: _apt reads it`)
    }
    t.notMatch(must('gpg --show-keys --with-colons release/postern-archive-keyring.gpg'), /^s/m)
    t.same(
      readFileSync(join(folder, 'Packages'), 'utf8').match(/(?<=^Filename: ).*/gm),
      packages.map((name) => `./postern_${name}.deb`),
    )
    must(`cd release
    gpgv --keyring ./postern-archive-keyring.gpg SHA256SUMS.asc SHA256SUMS
    sha256sum --check --strict SHA256SUMS`)
    t.equal(must('wc -l <release/SHA256SUMS').trim(), String(2 * packages.length))

    const before = must('sha256sum release/*')
    const other = sh(`SOURCE_DATE_EPOCH=1 ${release} --key FILE --out release --quick`)
    t.equal(other.status, 1)
    t.match(other.stderr, 'raise the version')
    t.equal(must('sha256sum release/*'), before, 'what was released is what it was')
  },
)

// ---- on a machine

const README = readFileSync(join(ROOT, 'README.md'), 'utf8')
const INSTALL = /```sh\n(.*archive-keyring[^`]*)```/.exec(README)?.[1] ?? ''

const COPY = `rm -rf /srv/postern && cp -a ${join(TREE, relative(ROOT, folder))} /srv/postern`
// apt as Debian sets it up: a container's image has its own settings (docker-gzip-indexes), under which apt copies an
// index that it would otherwise only link to.
const BOOT = `
  rm -rf /usr/sbin/policy-rc.d /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/docker-* /etc/nginx/sites-enabled/*
  echo 'APT::Get::Assume-Yes "true";' >/etc/apt/apt.conf.d/99yes
  mkdir -p /var/spool/asterisk/monitor
  echo sound >/var/spool/asterisk/monitor/call.mp3
  ${COPY}`

/** What apt warns of and what it calls an error: with some faults it says so, keeps what it had, and ends with 0. */
const words = (said: string): string[] => said.match(/^[WE]: .*$/gm) ?? []

void t.test('on a machine', { skip: skip || systemdMissing(), timeout: LIMIT }, async (t) => {
  const machine = await bootMachine(t, BOOT)
  const { ask, run, until } = machine
  const apt = (args: string) =>
    run(`DEBIAN_FRONTEND=noninteractive apt-get --allow-downgrades ${args} 2>&1`)
  const candidate = () => ask("apt-cache policy postern | sed -n 's/.*Candidate: //p'")

  await t.test("README's lines install it, whatever the umask", async (t) => {
    t.equal(INSTALL.trim().split('\n').length, 3)
    const { status, out } = await run(`exec 2>&1; set -e; umask 077\n${INSTALL}`)
    t.equal(status, 0, out)
    t.same(words(out), [])
    t.equal(await ask('postern --version'), `postern ${version}`)
    t.equal(await ask('systemctl is-active postern'), 'active')
  })

  const older = `/srv/postern/postern_${OLDER}_amd64.deb`
  const FORGE = "sed -i 's/^Version: .*/Version: 99/' /srv/postern/Packages"
  const SIGN = `cd /srv/postern
    export GNUPGHOME=$(mktemp -d)
    gpg --batch --quiet --passphrase '' --quick-generate-key 'Postern packages' ed25519 sign never
    apt-ftparchive release . >/tmp/Release
    gpg --yes --clearsign --output InRelease /tmp/Release
    gpgconf --kill all`
  for (const [title, damage, command, says] of [
    [
      'a package with one other byte',
      `printf x | dd of=${older} bs=1 seek=1000000 conv=notrunc`,
      `install postern=${OLDER}`,
      /^E: Failed to fetch .*\.deb/,
    ],
    [
      'an index that was not signed',
      `${FORGE}; rm /var/lib/apt/lists/*_srv_postern_*`,
      'update',
      /^E: Failed to fetch .*Packages/,
    ],
    [
      'an index that another key signed',
      `${FORGE}; ${SIGN}`,
      'update',
      /^W: .*(?:NO_PUBKEY|Missing key)/,
    ],
  ] as const) {
    await t.test(`apt refuses ${title}`, async (t) => {
      await ask(damage)
      const { out } = await apt(command)
      t.ok(
        words(out).some((line) => says.test(line)),
        out,
      )
      t.not(await candidate(), '99', 'nothing of it is believed')
      t.equal(await ask('postern --version'), `postern ${version}`)
      await ask(`${COPY} && apt-get update`)
    })
  }

  await t.test(
    'back to the older one, and an upgrade under load that loses no request',
    async (t) => {
      const back = await apt(`update && apt-get --allow-downgrades install postern=${OLDER}`)
      t.equal(back.status, 0, back.out)
      t.equal(await ask('postern --version'), `postern ${OLDER}`)
      await ask(`
      echo 'correct horse battery' | postern user add 201 --password-stdin
      cp /usr/share/doc/postern/examples/site.example.conf /etc/nginx/sites-enabled/postern
      nginx -qt && systemctl start nginx`)
      const login = await ask(
        `curl -s --json '{"username":"201","password":"correct horse battery"}' http://127.0.0.1/pbxcore/api/module-softphone-backend/v1/auth/login`,
      )
      const { access_token: token } = JSON.parse(login) as { access_token: string }
      const recording = 'http://127.0.0.1/pbxcore/softphone/recordings/call.mp3'
      const { answered, slowest } = await underLoad(machine, recording, token, async () => {
        const { status, out } = await apt('upgrade')
        t.equal(status, 0, out)
        t.same(words(out), [])
        await until('curl -sf --max-time 5 http://127.0.0.1:9478/readyz')
      })
      t.same(Object.keys(answered), ['200'], JSON.stringify(answered))
      t.comment(`${answered['200']} requests over an upgrade, none lost, the slowest ${slowest} s`)
      t.equal(await ask('postern --version'), `postern ${version}`)
    },
  )
})
