// README in a fresh root, from its first line to a purge, as a reader does it: what must hold on a machine that has
// nothing, whoever the reader is. The commands are README's own.
import { cpSync, globSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'

import { underLoad } from '../systemd/under-load.ts'
import { blockWith, inlineUnder } from './readme.ts'
import {
  bootFresh,
  bundleSource,
  type FreshRoot,
  makeFolder,
  quote,
  type Reader,
  type Release,
} from './root.ts'

const COMMANDS = '## Two commands'
const RECORDING = '## From nothing to a protected recording'
const OPERATING = '## Operating'

const PASSWORD = 'correct horse battery'
const SITE = 'http://127.0.0.1'
const API = `${SITE}/pbxcore/api/module-softphone-backend/v1`
/** The recording that README plays, below the folder. */
const RECORDED =
  /softphone\/recordings\/(\S+\.wav)/.exec(blockWith(RECORDING, 'ACCESS_TOKEN='))?.[1] ?? ''
const CALL = `${SITE}/pbxcore/softphone/recordings/${RECORDED}`
const PREVIOUS = '0.0.9'
export const LIMIT = 3_600_000 // milliseconds: minutes where nobody else is busy
const STREAM_LIMIT = 10 // seconds; half a second is promised, and the machine is busy

// What depends most on what a machine has: programs, modules, a browser, users and their rights. Small ones, for time.
const CHOSEN = [
  'cli/doctor',
  'cli/user',
  'docs',
  'doctor/host',
  'get-auth-token',
  'log',
  'monitoring',
  'nginx/channels',
  'nginx/recordings',
  'packaging/bundle',
  'page',
  'store/redis/link',
  'users/file',
].map((name) => `test/${name}.test.ts`)

/** Without colours, and no more of it than a reader of a failure wants. */
const tail = (text: string): string => text.split('\n').slice(-60).join('\n')

interface Told {
  root: FreshRoot
  /** What must succeed, as the reader; says how long it took. */
  step(name: string, script: string, stdin?: string): Promise<string>
  /** As `step`, as root: by sudo where the reader is somebody else. */
  rootStep(name: string, script: string, stdin?: string): Promise<string>
  /** The output of what must succeed, as root. */
  ask(script: string): Promise<string>
  addUser(): Promise<string>
}

const tell = async (t: Test, release: Release, reader: Reader, files = {}): Promise<Told> => {
  const began = performance.now()
  const root = await bootFresh(release, reader, files)
  t.teardown(() => root.stop())
  t.comment(`a root that runs: ${((performance.now() - began) / 1000).toFixed(1)} s`)
  const asRoot = (script: string): string =>
    reader.user === 'root' ? script : `sudo bash -c ${quote(script)}`
  const ask = async (script: string): Promise<string> => {
    const { status, out, err } = await root.run(script)
    if (status !== 0) throw new Error(`${script}\nended with ${status}\n${tail(out + err)}`)
    return out.trim()
  }
  const step: Told['step'] = async (name, script, stdin) => {
    const [wall, cpu] = [performance.now(), root.cpu()]
    const { status, out, err } = await root.run(`set -e\n${script}`, stdin)
    const seconds = ((performance.now() - wall) / 1000).toFixed(1)
    t.comment(`${name}: ${seconds} s, ${(root.cpu() - cpu).toFixed(1)} s of CPU`)
    if (status !== 0) {
      t.comment(tail(out + err))
      const { out: journal } = await root.run(asRoot('journalctl --no-pager -n 30'))
      t.comment(journal)
      // The journal is long, and what stands last is what is read: which tests they were is said once more.
      const broken = out.split('\n').filter((line) => /^ *not ok /.test(line))
      throw new Error([`${name} ended with ${status}: ${script}`, ...broken].join('\n'))
    }
    t.pass(name)
    return out + err
  }
  const rootStep: Told['rootStep'] = (name, script, stdin) =>
    step(name, asRoot(`set -e\n${script}`), stdin)
  return {
    root,
    step,
    rootStep,
    ask: (script) => ask(asRoot(`set -e\n${script}`)),
    // It asks twice, on a terminal.
    addUser: () => {
      const add = quote(blockWith(RECORDING, 'postern user add'))
      const type = `sleep 2; echo '${PASSWORD}'; sleep 2; echo '${PASSWORD}'; sleep 2`
      return rootStep('a user', `(${type}) | script -qec ${add} /dev/null`)
    },
  }
}

/** The two commands, in a clone; leaves the packages in a folder here: this tree's and the previous version's. */
const twoCommands = async (
  t: Test,
  release: Release,
  reader: Reader,
  to: string,
): Promise<void> => {
  const told = await tell(t, release, reader, {
    'srv/postern.bundle': bundleSource(to),
  })
  const { root, step, rootStep } = told
  await rootStep('apt-get update', 'apt-get update')
  await rootStep("README's apt line", inlineUnder(COMMANDS, 'apt install'), 'y\n')
  await step(
    'git clone',
    'git clone --quiet -c advice.detachedHead=false /srv/postern.bundle postern',
  )
  const inClone = (script: string): string => `cd postern\n${script}`
  const story = await step(
    'script/demo --check',
    inClone(inlineUnder(COMMANDS, 'script/demo --check')),
  )
  t.match(story, /^The whole story holds\.$/m)
  await step('script/setup --test', inClone('script/setup --test'))
  const tests = await step('script/test, a dozen files', inClone(`script/test ${CHOSEN.join(' ')}`))
  t.match(tests, /^\d+ passed, 0 failed$/m)
  await step('npm run check', inClone('. script/node.sh; use_node "$PWD"; npm run check'))
  // --quick: xz takes 100 s of a processor for each, and tells nothing of the root.
  const [pack = ''] = blockWith(RECORDING, 'script/package').split('\n')
  for (const options of ['', ` --version ${PREVIOUS} --out previous`]) {
    await step(`${pack}${options}`, inClone(`${pack} --quick${options}`))
  }
  const clone = join(
    root.written,
    reader.user === 'root' ? 'root' : `home/${reader.user}`,
    'postern',
  )
  cpSync(join(clone, 'dist'), join(to, 'dist'), { recursive: true })
  cpSync(join(clone, 'previous'), join(to, 'previous'), { recursive: true })
  // Here nginx was installed by the set-up, which starts nothing.
  await toRecording(t, told, 'postern')
}

/** README's steps to a protected recording, in a folder that has the package. */
const toRecording = async (
  t: Test,
  { rootStep, ask, addUser }: Told,
  folder: string,
): Promise<void> => {
  const began = performance.now()
  const [, ...lines] = blockWith(RECORDING, 'script/package').split('\n')
  await rootStep('step 1, without the build', `cd ${folder}\n${lines.join('\n')}`, 'y\n')
  t.match(await ask(inlineUnder(RECORDING, 'systemctl status postern')), 'active (running)')
  await addUser()
  // Asterisk's, as its package makes them.
  await ask(`
    groupadd asterisk
    cd /var/spool
    mkdir -p -m 755 asterisk
    mkdir -p asterisk/monitor/${dirname(RECORDED)}
    head -c 1000 /dev/zero >asterisk/monitor/${RECORDED}
    chgrp -R asterisk asterisk/monitor
    chmod -R u=rwX,g=rX,o= asterisk/monitor`)
  await rootStep('nginx reads recordings', inlineUnder(RECORDING, 'usermod'))
  await rootStep('step 3', blockWith(RECORDING, 'sites-enabled'))
  await ask('systemctl restart nginx') // README says so of usermod
  const hear = blockWith(RECORDING, 'ACCESS_TOKEN=').replace('…', PASSWORD)
  const said = await rootStep('a protected recording', `cd /tmp\n${hear}\nstat -c %s part.wav`)
  t.match(said, /^100$/m, 'a part of it')
  const seconds = (performance.now() - began) / 1000
  t.comment(`from the package to a recording: ${seconds.toFixed(1)} s`)
}

/** From the package to a protected recording, and on: what an operator does in the years after. */
const years = async (t: Test, release: Release, reader: Reader, from: string): Promise<void> => {
  const [current = ''] = globSync('dist/*.deb', { cwd: from })
  const [previous = ''] = globSync('previous/*.deb', { cwd: from })
  const told = await tell(t, release, reader, {
    [`srv/${current}`]: join(from, current),
    [`srv/${previous}`]: join(from, previous),
  })
  const { root, rootStep, ask, addUser } = told
  const version = /_([^_]+)_/.exec(current)?.[1]
  const status = (url: string, token: string): Promise<string> =>
    ask(`curl -s -o /dev/null -w '%{http_code}' -H 'Authorization: Bearer ${token}' ${url}`)
  const login = async (): Promise<string> => {
    const said = await ask(
      `curl -sS --json '{"username":"201","password":"${PASSWORD}"}' ${API}/auth/login`,
    )
    return (JSON.parse(said) as { access_token: string }).access_token
  }
  const install = (folder: string, options = ''): string =>
    `cd /srv && apt install -y ${options} ./${folder}/postern_*.deb`

  await rootStep('apt-get update', 'apt-get update')
  await toRecording(t, told, '/srv')
  t.equal(await status(CALL, 'nonsense'), '401')

  const token = await login()
  const change = async (name: string, script: string): Promise<void> => {
    const { answered, slowest } = await underLoad(root, CALL, token, async () => {
      await rootStep(name, script)
      await delay(1000)
    })
    t.same(Object.keys(answered), ['200'], `${name}: ${JSON.stringify(answered)}`)
    t.comment(
      `${name}: ${answered['200']} requests, none failed, the slowest ${slowest.toFixed(1)} s`,
    )
  }
  await change('downgrade', install('previous', '--allow-downgrades'))
  t.equal(await ask('postern --version'), `postern ${PREVIOUS}`)
  await change('upgrade', install('dist'))
  t.equal(await ask('postern --version'), `postern ${version}`)
  await change('reload', inlineUnder(OPERATING, 'systemctl reload postern'))

  await rootStep('remove', 'apt remove -y postern')
  t.equal(await status(CALL, token), '503', 'never the content')
  await rootStep('install again', install('dist'))
  t.equal(await status(CALL, token), '200', 'the session is still there')

  await streamsEnd('before the purge')
  await rootStep('purge', 'apt purge -y postern')
  await rootStep('install again', install('dist'))
  await rootStep('reload nginx', 'nginx -t && systemctl reload nginx')
  await addUser()
  await streamsEnd('after purge, install and reload')

  await rootStep(
    'take it out of nginx',
    'rm /etc/nginx/sites-enabled/postern; nginx -t && systemctl reload nginx',
  )
  await rootStep('purge', inlineUnder(OPERATING, 'apt purge'), 'y\n')
  t.equal(await ask('systemctl --failed --no-legend --plain'), '', 'no unit has failed')
  t.equal(
    await ask("find /etc /usr /var/lib /run -xdev -name '*postern*' -not -path '/var/lib/apt/*'"),
    '',
    'nothing is left of it',
  )

  /** A live stream is closed at logout; or it is refused and doctor says why, and its cure is a cure. */
  async function streamsEnd(when: string): Promise<void> {
    const listen = async (token: string): Promise<string> => {
      await ask(
        `systemd-run --quiet --collect --unit=stream sh -c 'curl -sN -o /tmp/heard -w "%{http_code}" -H "Accept: text/event-stream" -H "Authorization: Bearer ${token}" ${API}/sub/users-state >/tmp/code'`,
      )
      // curl says the code when the stream has ended.
      for (let asked = 0; asked < 20; asked++) {
        await delay(100)
        const [state, code] = (
          await ask('systemctl is-active stream || true; cat /tmp/code 2>/dev/null || true')
        ).split('\n')
        if (state !== 'active') return code ?? 'never began'
      }
      return 'live'
    }
    let token = await login()
    let stream = await listen(token)
    if (stream === '503') {
      const doctor = await root.run(
        reader.user === 'root' ? 'postern doctor' : 'sudo postern doctor',
      )
      t.not(doctor.status, 0, `${when}: doctor sees why streams are refused`)
      t.match(doctor.out + doctor.err, 'systemctl restart nginx', `${when}: and names the cure`)
      await ask('systemctl restart nginx')
      token = await login()
      stream = await listen(token)
    }
    t.equal(stream, 'live', `${when}: a stream opens`)
    await ask(`curl -sf -X POST -H 'Authorization: Bearer ${token}' ${API}/auth/logout`)
    const end = performance.now() + STREAM_LIMIT * 1000
    let state = 'active'
    while (state === 'active' && performance.now() < end) {
      state = await ask('systemctl is-active stream || true')
    }
    t.not(state, 'active', `${when}: it is closed at logout`)
    await ask('systemctl stop stream || true')
  }
}

/** README's whole story, for one reader. */
export const tellReadme = async (t: Test, release: Release, reader: Reader): Promise<void> => {
  const { folder, remove } = makeFolder()
  t.teardown(remove)
  await t.test('two commands', { timeout: LIMIT }, (t) => twoCommands(t, release, reader, folder))
  if (!t.passing()) return // there may be no package
  await t.test('a package, and the years after', { timeout: LIMIT }, (t) =>
    years(t, release, reader, folder),
  )
}
