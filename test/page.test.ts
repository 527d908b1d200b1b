// The demo's page in a real browser, against the whole demo: what a person sees and does, and what must not be
// found anywhere afterwards.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { BrowserContext, Page } from 'playwright-core'
import t, { type Test } from 'tap'

import { browserMissing, openBrowser, SOON } from './fixtures/browser.ts'
import type { DemoReport } from './fixtures/demo-site.ts'
import { compiled } from './fixtures/compiled.ts'
import { nginxMissing, startFront } from './fixtures/nginx.ts'
import { V1 } from './nginx/ask.ts'

const STREAMS = ['EventSource', 'WebSocket'] as const

// ---- the demo, as a process of its own

interface Demo {
  /** For a browser. */
  url: string
  /** Of the demo's own nginx. */
  inner: string
  password: string
  recordings: readonly string[]
  /** All that nginx and the daemon have written so far. */
  logs(): Promise<string>
  publish(channel: string, message: string): Promise<void>
}

const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port was given')
  return address.port
}

const hear = async (child: ChildProcess): Promise<DemoReport> => {
  const [report] = (await once(child, 'message')) as [DemoReport]
  return report
}

const startDemo = async (t: Test, settings = ''): Promise<Demo> => {
  for (let attempt = 0; ; attempt++) {
    const script = join(import.meta.dirname, 'fixtures', 'demo-site.ts')
    // Without the runner's own Node options: it would count the demo's coverage.
    const node = ['-u', 'NODE_OPTIONS', process.execPath, script]
    const child = spawn('/usr/bin/env', [...node, String(await freePort()), settings], {
      env: { ...process.env, ...compiled() },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const report = await hear(child)
    if ('url' in report) {
      t.teardown(async () => {
        const exited = once(child, 'exit')
        child.disconnect()
        await exited
      })
      return {
        ...report,
        inner: report.url,
        logs: async () => {
          child.send('logs')
          const told = await hear(child)
          return 'logs' in told ? told.logs : ''
        },
        publish: async (channel, message) => {
          const to = `${report.url}${V1}/pub/${channel}`
          await (await fetch(to, { method: 'POST', body: message })).text()
        },
      }
    }
    // Somebody else took the free port in between.
    const taken = 'problem' in report && /Address already in use/i.test(report.problem)
    if (!taken || attempt === 5) throw new Error(JSON.stringify(report))
  }
}

/** Of each control that is to be seen: its name, and its border against what it stands on (WCAG 2.2, 1.4.11). */
const CONTRASTS = `
  (() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number)
    const luminance = (colour) => {
      const [r, g, b] = channels(colour).map((c) =>
        c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4,
      )
      return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const ground = (element) => {
      const { backgroundColor } = getComputedStyle(element)
      return channels(backgroundColor)[3] === 0 ? ground(element.parentElement) : backgroundColor
    }
    return [...document.querySelectorAll('button, select, input:not([type="radio"])')]
      .filter((control) => control.offsetParent)
      .map((control) => {
        const pair = [getComputedStyle(control).borderTopColor, ground(control.parentElement)]
        const [dark, light] = pair.map(luminance).sort((a, b) => a - b)
        return [control.id || control.textContent.trim(), (light + 0.05) / (dark + 0.05)]
      })
  })()`

const open = async (context: BrowserContext, demo: Demo): Promise<Page> => {
  const page = await context.newPage()
  await page.goto(`${demo.url}/`)
  return page
}

const logIn = async (page: Page, { password }: Demo, name = '201'): Promise<void> => {
  await page.getByLabel('Name').fill(name)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
}

/** Waits until a stream's card is in this state. */
const becomes = (page: Page, stream: string, state: string): Promise<void> =>
  page.locator(`#${stream}[data-state="${state}"]`).waitFor()

const bothBecome = async (page: Page, state: string): Promise<void> => {
  for (const stream of STREAMS) await becomes(page, stream, state)
}

const hears = (page: Page, stream: string, name: string): Promise<void> =>
  page.locator(`#${stream} td`, { hasText: name }).waitFor()

const stateOf = (name: string): string =>
  JSON.stringify({ states: { 777: { state: 'Busy', name } } })

/** Published again and again: the demo's own producer writes into the same one-message buffer. */
const published = async <T>(demo: Demo, channel: string, name: string, until: Promise<T>) => {
  const timer = setInterval(() => {
    demo.publish(channel, stateOf(name)).catch(() => {})
  }, 100)
  try {
    return await until
  } finally {
    clearInterval(timer)
  }
}

/** In the page, as a script of another developer would do it. */
const statusOf = (page: Page, path: string, method = 'GET'): Promise<number> =>
  page.evaluate<number>(
    `fetch(${JSON.stringify(path)}, { method: '${method}' }).then((response) => response.status)`,
  )
const ticketFor = (page: Page, wanted: Record<string, unknown>): Promise<string> =>
  page.evaluate<string>(
    `fetch('${V1}/auth/ticket', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: ${JSON.stringify(JSON.stringify(wanted))},
    }).then((response) => response.json()).then(({ ticket }) => ticket)`,
  )
const openStream = (page: Page, path: string): Promise<string> =>
  page.evaluate<string>(
    `new Promise((resolve) => {
      const source = new EventSource(${JSON.stringify(path)})
      source.onopen = () => { source.close(); resolve('open') }
      source.onerror = () => { source.close(); resolve('refused') }
    })`,
  )

/**
 * What was asked for by each stream that has ended, from nginx's own log: the browser counts a worker's requests for no
 * page. With `after`: those that follow so many, once there are two.
 */
const endedStreams = async (demo: Demo, after?: number): Promise<string[]> => {
  const deadline = Date.now() + SOON
  for (;;) {
    const lines = (await demo.logs()).matchAll(/"GET \S+\/sub\/(\S+) HTTP/g)
    const asked = Array.from(lines, ([, words = '']) => words).slice(after ?? 0)
    if (after === undefined || asked.length >= 2 || Date.now() > deadline) return asked
    await delay(50)
  }
}

const recordingOf = (demo: Demo): string => demo.recordings[0] ?? ''

// Two demos and three browsers, on a machine that may run another test beside.
t.setTimeout(900_000)

const skip = browserMissing() || nginxMissing()

/** The demo behind another nginx that ends the TLS: the way that most have, and the harder one. */
const startFronted = async (t: Test): Promise<{ demo: Demo; args: readonly string[] }> => {
  const url = 'https://pbx.test'
  const demo = await startDemo(t, `[site]\norigins = ["${url}"]\n`)
  const front = await startFront(t, 'pbx.test', Number(new URL(demo.url).port))
  const args = [`--host-resolver-rules=MAP pbx.test 127.0.0.1:${front.port}`]
  return { demo: { ...demo, url }, args }
}

void t.test('the page, behind a front that ends the TLS', { skip }, async (t) => {
  const { demo, args } = await startFronted(t)
  const first = await openBrowser(t, { args })
  const second = await openBrowser(t, { args })
  const secrets = new Set<string>([demo.password])
  for (const { context } of [first, second]) {
    context.on('response', (response) => {
      if (!/\/auth\/(?:login|refresh)$/.test(response.url()) || response.status() !== 200) return
      response
        .json()
        .then((body: Record<string, string>) => {
          secrets.add(String(body['access_token']))
          secrets.add(String(body['refresh_token'] ?? body['access_token']))
        })
        .catch(() => {})
    })
  }
  const { context } = first

  await t.test('comes with a policy that lets in nothing of another origin', async (t) => {
    const response = await fetch(`${demo.inner}/`)
    const html = await response.text()
    const policy = response.headers.get('content-security-policy') ?? ''
    t.match(policy, /default-src 'none'/)
    t.match(policy, /form-action 'none'/)
    t.notMatch(policy, /unsafe|https?:|\*/)
    t.notMatch(html, /\b(?:style|on[a-z]+)=|https?:/, 'and needs nothing of the kind')
    const offered = [...html.matchAll(/data-recording="([^"]+)"/g)].map(([, name]) => name)
    t.same(offered, demo.recordings, 'it offers the recordings that there are')
  })

  await t.test('tells a wrong password, and logs in with the right one', async (t) => {
    const page = await open(context, demo)
    const errors: string[] = []
    page.on('pageerror', ({ message }) => errors.push(message))
    await logIn(page, { ...demo, password: 'wrong' })
    await page.getByRole('alert').getByText('do not belong together').waitFor()
    t.equal(await page.locator(':focus').getAttribute('id'), 'password')
    await logIn(page, demo)
    await page.getByText('201 (user)').waitFor()
    const protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
    t.equal(await page.evaluate(protocol), 'h2')
    const cookies = (await context.cookies()).map(({ name, secure }) => [name, secure])
    t.same(cookies, [['__Host-postern', true]])
    t.equal(await page.locator(':focus').innerText(), 'Live')
    await bothBecome(page, 'live')
    t.same(errors, [])
    await page.close()
  })

  for (const proof of ['cookie', 'ticket']) {
    await t.test(`hears live events over both transports, by ${proof}`, async (t) => {
      const page = await open(context, demo)
      await bothBecome(page, 'live')
      const before = (await endedStreams(demo)).length
      await page.locator('#by-ticket').check()
      await endedStreams(demo, before)
      await bothBecome(page, 'live')
      if (proof === 'cookie') {
        await page.locator('#by-cookie').check()
        await endedStreams(demo, before + 2)
        await bothBecome(page, 'live')
      }
      for (const stream of STREAMS) {
        const name = `${stream} by ${proof}`
        await published(demo, 'users-state', name, hears(page, stream, name))
      }
      await page.close()
      const asked = await endedStreams(demo, before + (proof === 'cookie' ? 4 : 2))
      t.equal(asked.length, 2)
      for (const words of asked) t.equal(words.endsWith('?[masked]'), proof === 'ticket', words)
    })
  }

  await t.test("hears one's own channel, and says that another is refused", async (t) => {
    const page = await open(context, demo)
    await page.getByLabel('Channel').selectOption('me/users-state')
    await bothBecome(page, 'live')
    for (const stream of STREAMS) {
      await published(demo, 'users-state-user-1', 'Own', hears(page, stream, 'Own'))
    }
    await page.getByLabel('Channel').selectOption('event-bus')
    await bothBecome(page, 'refused')
    t.equal(await page.locator('#EventSource td').count(), 0, 'nothing of the old one stays')
    await page.close()
  })

  for (const proof of ['cookie', 'ticket']) {
    await t.test(`is refused a call in which nobody here took part, by ${proof}`, async () => {
      const page = await open(context, demo)
      await page.locator(`#by-${proof}`).check()
      await page.getByRole('button', { name: /^Outside to 202/ }).click()
      await page.locator('#recording[data-state="refused"]').waitFor()
      await page.close()
    })

    await t.test(`plays a recording and seeks in it, by ${proof}`, async (t) => {
      const page = await open(context, demo)
      await page.locator(`#by-${proof}`).check()
      const ranges: string[] = []
      page.on('response', (response) => {
        if (!response.url().includes(recordingOf(demo))) return
        t.equal(response.url().includes('ticket='), proof === 'ticket')
        if (response.status() === 206) ranges.push(response.headers()['content-range'] ?? '')
      })
      await page.getByRole('button', { name: /^201 to 202/ }).click()
      await page.locator('#recording[data-state="ready"]').waitFor()
      t.equal(Math.round(await page.evaluate<number>('audio.duration')), 240)
      const at = await page.evaluate<number>(
        `new Promise((resolve, reject) => {
          audio.muted = true
          audio.onerror = () => reject(new Error('it does not play'))
          audio.onseeked = () => {
            audio.onseeked = null
            audio.ontimeupdate = () => { if (audio.currentTime > 200.2) resolve(audio.currentTime) }
          }
          audio.play().then(() => { audio.currentTime = 200 })
        })`,
      )
      t.ok(at > 200, `it goes on from there: ${at}`)
      const starts = ranges.map((range) => Number(/^bytes (\d+)-/.exec(range)?.[1]))
      t.ok(starts.includes(0) && starts.some((start) => start > 3_000_000), ranges.join(', '))
      await page.close()
    })
  }

  await t.test('a ticket is good once, for one thing, for its seconds', async (t) => {
    const page = await open(context, demo)
    await bothBecome(page, 'live')
    const sub = `${V1}/sub/users-state?ticket=`
    const wanted = { action: 'subscribe', resource: 'users-state' }
    const ticket = await ticketFor(page, wanted)
    t.equal(await openStream(page, sub + ticket), 'open')
    t.equal(await openStream(page, sub + ticket), 'refused', 'used')
    t.equal(await openStream(page, `${V1}/sub/contacts?ticket=${ticket}`), 'refused', 'of another')

    const [one, other] = demo.recordings
    const folder = '/pbxcore/softphone/recordings'
    const short = await ticketFor(page, { action: 'read', resource: `recordings/${one}`, ttl: 1 })
    // The cookie beside it would do; an explicit credential that is bad never falls back to it.
    t.equal(await statusOf(page, `${folder}/${other}?ticket=${short}`, 'HEAD'), 401, 'of another')
    const expired = async (): Promise<number> => {
      for (;;) {
        const status = await statusOf(page, `${folder}/${one}?ticket=${short}`, 'HEAD')
        if (status !== 200) return status
      }
    }
    t.equal(await expired(), 401, 'expired')
    await page.close()
  })

  await t.test('lists the sessions, and ending another one stops its streams', async (t) => {
    const mine = await open(context, demo)
    const theirs = await open(second.context, demo)
    await logIn(theirs, demo)
    await bothBecome(theirs, 'live')
    await bothBecome(mine, 'live')
    await theirs.getByRole('button', { name: /^201 to 202/ }).click()
    await theirs.locator('#recording[data-state="ready"]').waitFor()
    const others = mine.locator('#sessions > li:not(.current)')
    await others.getByText('Listens to users-state').first().waitFor()
    t.equal(await mine.locator('#sessions > li').count(), 2)
    t.equal(await mine.locator('#sessions > li.current').count(), 1)

    await others.getByRole('button').click()
    await bothBecome(theirs, 'ended')
    await theirs.getByText('Your session was ended.').waitFor()
    t.equal(await theirs.evaluate("audio.getAttribute('src')"), null, 'nor does it play on')
    await others.waitFor({ state: 'detached' })
    t.equal(await mine.locator(':focus').innerText(), 'Your sessions')
    await bothBecome(mine, 'live')

    await logIn(theirs, demo)
    await bothBecome(theirs, 'live')
    await theirs.getByRole('button', { name: 'Log out', exact: true }).click()
    await theirs.getByRole('heading', { name: 'Log in' }).waitFor()
    await mine.close()
    await theirs.close()
  })

  await t.test('keeps the user in over a reload', async (t) => {
    const page = await open(context, demo)
    await bothBecome(page, 'live')
    await page.reload()
    await page.getByText('201 (user)').waitFor()
    await bothBecome(page, 'live')
    t.match(await page.locator('#until').innerText(), /Token until|^$/)
    await page.close()
  })

  await t.test('offline it says so, and goes on where it was', async (t) => {
    const page = await open(context, demo)
    await bothBecome(page, 'live')
    await published(demo, 'users-state', 'Before', hears(page, 'WebSocket', 'Before'))
    await hears(page, 'EventSource', 'Before')
    await context.setOffline(true)
    await bothBecome(page, 'offline')
    const before = (await endedStreams(demo)).length
    await context.setOffline(false)
    await bothBecome(page, 'live')
    for (const stream of STREAMS) {
      await published(demo, 'users-state', 'After', hears(page, stream, 'After'))
    }
    await page.close()
    const resumed = await endedStreams(demo, before)
    t.equal(resumed.length, 2)
    for (const asked of resumed) t.match(asked, /last_event_id=\d+/)
  })

  await t.test('logging out closes the streams of every tab', async (t) => {
    const one = await open(context, demo)
    const other = await open(context, demo)
    await bothBecome(one, 'live')
    await bothBecome(other, 'live')
    const before = (await endedStreams(demo)).length
    await one.getByRole('button', { name: 'Log out', exact: true }).click()
    await one.getByRole('heading', { name: 'Log in' }).waitFor()
    t.equal(await one.locator(':focus').getAttribute('id'), 'username')
    await other.getByRole('heading', { name: 'Log in' }).waitFor()
    t.equal((await endedStreams(demo, before)).length, 2)
    t.equal(await statusOf(other, `${V1}/profile`), 401)
    t.equal(await openStream(other, `${V1}/sub/users-state`), 'refused')
    await one.close()
    await other.close()
  })

  await t.test('twenty tabs over HTTP/1.1 share their streams, whichever closes', async (t) => {
    const { context } = second
    const first = await open(context, demo)
    await logIn(first, demo)
    await bothBecome(first, 'live')
    const tabs: Page[] = []
    while (tabs.length < 19) tabs.push(await open(context, demo))
    for (const tab of tabs) await bothBecome(tab, 'live')
    const before = (await endedStreams(demo)).length
    const allHear = async (name: string): Promise<void> => {
      const heard = tabs.flatMap((tab) => STREAMS.map((stream) => hears(tab, stream, name)))
      await published(demo, 'users-state', name, Promise.all(heard))
    }
    await allHear('All')
    const lifeOfFirst = await context.newCDPSession(first)
    await lifeOfFirst.send('Page.setWebLifecycleState', { state: 'frozen' })
    await allHear('While the first is frozen')
    await first.close()
    await allHear('Without the first')
    t.equal((await endedStreams(demo)).length, before, 'by the streams that it had opened')

    const [last] = tabs.slice(-1)
    await last?.getByRole('button', { name: 'Log out', exact: true }).click()
    for (const tab of tabs) await tab.getByRole('heading', { name: 'Log in' }).waitFor()
    t.equal((await endedStreams(demo, before)).length, 2, 'one of each kind for all')
    await Promise.all(tabs.map((tab) => tab.close()))
  })

  await t.test('a tab that dies with the shared streams takes them from no other', async (t) => {
    const first = await open(second.context, demo)
    await logIn(first, demo)
    await bothBecome(first, 'live')
    const other = await open(second.context, demo)
    await bothBecome(other, 'live')
    await published(demo, 'users-state', 'Before', hears(other, 'EventSource', 'Before'))
    await hears(other, 'WebSocket', 'Before')
    const before = (await endedStreams(demo)).length
    await first.goto('chrome://crash').catch(() => {}) // and the worker, which lives in its process
    await endedStreams(demo, before)
    await other.locator('#notes').getByText('closed').first().waitFor({ timeout: 60_000 })
    for (const stream of STREAMS) {
      await published(demo, 'users-state', 'After', hears(other, stream, 'After'))
    }
    await other.close()
    for (const asked of await endedStreams(demo, before + 2)) t.match(asked, /last_event_id=\d+/)
  })

  await t.test('without shared workers each tab has streams of its own', async (t) => {
    const page = await second.context.newPage()
    await page.addInitScript('delete globalThis.SharedWorker')
    const own = new Set<string>()
    page.on('request', (request) => own.add(request.resourceType()))
    page.on('websocket', () => own.add('websocket'))
    await page.goto(`${demo.url}/`)
    await bothBecome(page, 'live')
    await published(demo, 'users-state', 'Alone', hears(page, 'EventSource', 'Alone'))
    t.ok(own.has('eventsource') && own.has('websocket'), [...own].join(', '))
    await page.close()
  })

  await t.test('who was sent here to log in goes back to where they came from', async (t) => {
    const page = await context.newPage()
    const wanted = `${demo.url}/app/x?y=1&z=%2F`
    await page.goto(wanted)
    await page.getByText('Log in to go on.').waitFor()
    t.equal(page.url(), `${demo.url}/#/app/x?y=1&z=%2F`)
    await logIn(page, demo, '900')
    await page.waitForURL(wanted)
    t.match(await page.locator('body').innerText(), /"user":"900"/)

    // As by a link in a mail, which brings no SameSite=Strict cookie along: whoever is in goes on at once.
    await page.goto(`${demo.url}/#/app/y`)
    await page.waitForURL(`${demo.url}/app/y`)

    // A place where this login does not count.
    let asked = 0
    await page.route('**/app/in-vain', (route) => {
      asked++
      return route.fulfill({ status: 303, headers: { location: '/#/app/in-vain' } })
    })
    await page.goto(`${demo.url}/app/in-vain`)
    await page.getByText('takes no login of this page').waitFor()
    t.equal(asked, 2, 'it tried, and does not go to and fro')
    t.equal(await page.locator('#back-link').getAttribute('href'), `${demo.url}/app/in-vain`)

    for (const hash of ['#//evil.test/', '#https://evil.test/', '#javascript:alert(1)']) {
      await page.goto('about:blank')
      await page.goto(`${demo.url}/${hash}`)
      await bothBecome(page, 'live')
      t.equal(page.url(), `${demo.url}/${hash}`, 'it stays')
    }
    const rows: [hash: string, back: string | undefined][] = [
      ['', undefined],
      ['#', undefined],
      ['#/', '/'],
      ['#/app/%2F%2Fevil.test?a=b#c', '/app/%2F%2Fevil.test?a=b#c'],
      ['#/%2F/evil.test', '/%2F/evil.test'],
      ['#/app/..//evil.test', '//evil.test'],
      ...[
        '#//evil.test',
        '#///evil.test',
        '#/\\evil.test',
        '#\\\\evil.test',
        '#/\t/evil.test',
        '#/\n/evil.test',
        '#%2F%2Fevil.test',
        '#%09//evil.test',
        '#https://evil.test',
        `#${demo.url}/app/x`,
        '#evil.test',
        '#@evil.test',
        '#javascript:alert(1)',
        '#data:text/html,x',
        '#/\\[',
      ].map((hash): [string, undefined] => [hash, undefined]),
    ]
    const hashes = JSON.stringify(rows.map(([hash]) => hash))
    const found = await page.evaluate<(string | null)[]>(
      `import('/back.js').then(({ readBack }) =>
        ${hashes}.map((hash) => readBack({ hash, origin: location.origin }) ?? null))`,
    )
    for (const [index, [hash, back]] of rows.entries()) {
      t.equal(found[index], back === undefined ? null : demo.url + back, JSON.stringify(hash))
    }
    await page.getByRole('button', { name: 'Log out', exact: true }).click()
    await page.getByRole('heading', { name: 'Log in' }).waitFor()
    await page.close()
  })

  await t.test('is used by keyboard alone', async (t) => {
    const page = await open(context, demo)
    await page.getByRole('heading', { name: 'Log in' }).waitFor()
    const focused = (): Promise<string> =>
      page.evaluate<string>(
        "((e) => e.id || e.closest('article')?.id || e.dataset.recording || e.getAttribute('aria-label') || e.textContent.trim())(document.activeElement)",
      )
    const tabTo = async (wanted: RegExp): Promise<void> => {
      for (let presses = 0; presses < 40; presses++) {
        await page.keyboard.press('Tab')
        if (wanted.test(await focused())) return
      }
      throw new Error(`no way to ${String(wanted)}`)
    }
    await tabTo(/^username$/)
    await page.keyboard.type('202')
    await tabTo(/^password$/)
    await page.keyboard.type(demo.password)
    await page.keyboard.press('Enter')
    await bothBecome(page, 'live')
    // From the heading, where the login left the focus, through everything and round to what stands before it.
    await tabTo(/^channel$/)
    await page.keyboard.press('ArrowDown')
    await page.locator('#channel').getByText('me/users-state').waitFor({ state: 'attached' })
    t.equal(await page.locator('#channel').inputValue(), 'me/users-state')
    await tabTo(/^EventSource$/)
    await page.keyboard.press('Space')
    await becomes(page, 'EventSource', 'off')
    await page.keyboard.press('Space')
    await becomes(page, 'EventSource', 'live')
    await tabTo(/^WebSocket$/)
    await tabTo(/20261122-101500/)
    await page.keyboard.press('Enter')
    await page.locator('#recording[data-state="ready"]').waitFor()
    await tabTo(/^audio$/)
    await tabTo(/^End this session$/)
    await tabTo(/^notes$/)
    await tabTo(/^logout$/)
    await tabTo(/^by-cookie$/)
    await page.keyboard.press('ArrowDown')
    t.equal(await page.locator('#by-ticket').isChecked(), true)
    await bothBecome(page, 'live')
    await page.keyboard.press('Shift+Tab')
    await page.keyboard.press('Shift+Tab')
    t.equal(await focused(), 'logout')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Log in' }).waitFor()
    await page.close()
  })

  await t.test('controls can be seen, and those of a row have one height', async (t) => {
    const page = await open(context, demo)
    await logIn(page, demo)
    await bothBecome(page, 'live')
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      const contrasts = await page.evaluate<[string, number][]>(CONTRASTS)
      t.ok(contrasts.length >= 8, 'buttons and the list of channels')
      for (const [name, contrast] of contrasts) {
        t.ok(contrast >= 3, `${colorScheme}: the border of ${name}: ${contrast.toFixed(1)}:1`)
      }
    }
    for (const width of [320, 390, 1200]) {
      await page.setViewportSize({ width, height: 900 })
      const heights = await page.evaluate<number[]>(
        "[...document.querySelectorAll('.bar button')].map((b) => b.getBoundingClientRect().height)",
      )
      t.equal(heights.length, 2)
      t.equal(new Set(heights).size, 1, `${width} px: ${heights.join(', ')}`)
      t.ok(
        await page.evaluate<boolean>('document.documentElement.scrollWidth <= innerWidth'),
        `${width} px: nothing to scroll to sideways`,
      )
    }
    await page.close()
  })

  await t.test('a card promises nothing more once its session has ended', async (t) => {
    const page = await open(context, demo)
    await bothBecome(page, 'live')
    await page.getByLabel('Channel').selectOption('event-bus')
    await bothBecome(page, 'refused')
    t.equal(await page.getByText('Nothing heard yet').count(), 0, 'refused')
    await page.getByLabel('Channel').selectOption('users-state')
    await bothBecome(page, 'live')
    await page.getByRole('button', { name: 'End this session' }).click()
    await bothBecome(page, 'ended')
    t.equal(await page.getByText('Nothing heard yet').count(), 0, 'ended')
    await page.close()
  })

  await t.test('without JavaScript it says what to do, and does not seem to wait', async (t) => {
    const { context } = await openBrowser(t, { javaScriptEnabled: false, args })
    const page = await open(context, demo)
    t.match(await page.locator('main').innerText(), /^This page needs JavaScript: allow it[^]*curl/)
    t.equal(await page.getByText('Looking whether').isVisible(), false)
  })

  await t.test('leaves no token in storage, history or any log', async (t) => {
    const page = await open(context, demo)
    await logIn(page, demo)
    await bothBecome(page, 'live')
    const kept = await page.evaluate(
      `(async () => ({
        local: localStorage.length,
        session: sessionStorage.length,
        databases: (await indexedDB.databases()).length,
        caches: (await caches.keys()).length,
        cookie: document.cookie,
        url: location.href,
      }))()`,
    )
    const nothing = { local: 0, session: 0, databases: 0, caches: 0, cookie: '' }
    t.same(kept, { ...nothing, url: `${demo.url}/` })
    await page.close()
    t.ok(secrets.size > 4, 'the tokens of all these logins were seen')
    const logs = await demo.logs()
    t.match(logs, /\/sub\/users-state\?\[masked\]/, 'tickets went by')
    for (const secret of secrets) t.notOk(logs.includes(secret), 'not in the logs')
    t.notMatch(logs, /eyJ/, 'nor anything like one')
    await context.close()
    // All but the cookie jar, which is the browser's own safe, and of the cookie alone.
    const files = readdirSync(first.folder, { recursive: true, encoding: 'utf8' })
      .map((name) => join(first.folder, name))
      .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
    t.ok(
      files.some((path) => path.endsWith('/History')),
      'there is a history',
    )
    for (const path of files.filter((path) => !/\/Cookies(?:-journal)?$/.test(path))) {
      const text = readFileSync(path, 'latin1')
      for (const secret of secrets) {
        if (text.includes(secret)) t.fail(`a secret stands in ${path.slice(first.folder.length)}`)
      }
    }
  })
})

void t.test('the page, where tokens live for seconds', { skip }, async (t) => {
  const demo = await startDemo(t, '[softphone]\naccess_ttl = 6\n\n[tickets]\nmax_ttl = 1\n')
  const { context } = await openBrowser(t)
  const page = await open(context, demo)

  await t.test('renews in time, and its streams go on', async (t) => {
    await logIn(page, demo)
    await bothBecome(page, 'live')
    const notes = page.locator('#notes')
    await notes.getByText('Renewed').nth(1).waitFor()
    await bothBecome(page, 'live')
    t.notMatch(await notes.innerText(), /closed|Lost|late/)
  })

  await t.test('a recording goes on with a new ticket where the old one has ended', async (t) => {
    await page.locator('#by-ticket').check()
    const tickets = new Set<string>()
    page.on('response', (response) => {
      const ticket = /ticket=([^&]+)/.exec(response.url())?.[1]
      if (ticket !== undefined && response.status() === 206) tickets.add(ticket)
    })
    await page.getByRole('button', { name: /^201 to 202/ }).click()
    await page.locator('#recording[data-state="ready"]').waitFor()
    const [old = ''] = tickets
    const path = `/pbxcore/softphone/recordings/${recordingOf(demo)}?ticket=${old}`
    while ((await statusOf(page, path, 'HEAD')) === 200);
    await page.evaluate('audio.muted = true; audio.currentTime = 200')
    await page.locator('#notes').getByText('refused half-way').waitFor()
    await page.locator('#recording[data-state="ready"]').waitFor()
    const at = await page.evaluate<number>(
      'new Promise((resolve) => { audio.ontimeupdate = () => resolve(audio.currentTime); void audio.play() })',
    )
    t.ok(at >= 200, `from the same place: ${at}`)
    t.equal(tickets.size, 2)
  })

  await t.test('without a refresh token it ends with the token, and says so', async (t) => {
    await page.reload()
    await bothBecome(page, 'live')
    await page.getByText('Your session has expired.').waitFor()
    await bothBecome(page, 'expired')
    t.equal(await page.locator('#EventSource td').count(), 0)
    await logIn(page, demo)
    await bothBecome(page, 'live')
  })

  await t.test('a computer that slept goes on by ticket, its cookie being gone', async (t) => {
    const asleep = await openBrowser(t)
    const page = await asleep.context.newPage()
    await page.clock.install()
    await page.goto(`${demo.url}/`)
    await logIn(page, demo)
    await bothBecome(page, 'live')
    await page.clock.pauseAt(Date.now() + 1000)
    await bothBecome(page, 'waiting')
    while ((await statusOf(page, `${V1}/profile`)) === 200);
    await page.clock.fastForward(20_000)
    await page.clock.resume()
    await page.locator('#notes').getByText('Renewed late').waitFor()
    await bothBecome(page, 'live')
    const before = (await endedStreams(demo)).length
    await page.close()
    const asked = await endedStreams(demo, before)
    t.equal(asked.length, 2)
    for (const words of asked) t.match(words, /\[masked\]$/)
  })
})
