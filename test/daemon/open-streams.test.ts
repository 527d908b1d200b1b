// What the daemon says of nginx's workers: in its log, its metrics and to doctor.

import { writeFileSync } from 'node:fs'
import t from 'tap'

import { loadConfig } from '../../src/config/load.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { createLog } from '../../src/log.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { openKickSocket } from '../fixtures/kick-socket.ts'
import { makePlace, until } from '../fixtures/postern.ts'
import { ask } from '../nginx/ask.ts'

void t.test('a worker of nginx dies, and nginx is reloaded', async (t) => {
  const place = makePlace(t)
  const file = place.at('cgroup.procs')
  place.configure({
    streams: `kick_socket = "${place.at('kick.sock')}"\nprocesses = "${file}"`,
  })
  await openKickSocket(t, place.at('kick.sock'))
  writeFileSync(file, '1\n2\n3\n')
  const lines: string[] = []
  const log = createLog('info', { write: (line: string) => void lines.push(line) })
  const daemon = await startDaemon(loadConfig(place.config), { log, clock: createTestClock() })
  t.teardown(() => daemon.stop())
  const told = async (): Promise<object> => {
    const { body } = await ask(0, '/ready', { socket: place.at('control.sock') })
    return (JSON.parse(body) as { nginx: object }).nginx
  }
  const whole = {
    reloadDue: false,
    listLost: false,
    guessed: false,
    unsure: 0,
    namesInHeader: false,
  }
  t.same(await told(), whole)
  writeFileSync(file, '1\n2\n4\n')
  await until('the death is said', () => lines.some((line) => line.includes('nginx died')))
  const death = lines.find((line) => line.includes('nginx died'))
  t.match(JSON.parse(String(death)), { level: 50, pids: ['3'], guessed: false })
  t.match(death, /`systemctl reload nginx`/)
  t.same(await told(), { ...whole, reloadDue: true })
  const { body } = await place.operator('/metrics')
  t.match(body, /^postern_nginx_worker_deaths_total 1$/m)
  t.match(body, /^postern_nginx_reload_due 1$/m)
  writeFileSync(file, '1\n5\n6\n')
  await until('the end of it is said', () => lines.some((line) => line.includes('has new workers')))
  t.same(await told(), whole)
})
