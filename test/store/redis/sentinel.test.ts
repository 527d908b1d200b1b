// Whom the sentinels name, when they do not agree or do not answer.

import t from 'tap'

import { findPrimary } from '../../../src/store/redis/sentinel.ts'

const NODES = ['a', 'b', 'c'].map((host) => ({ host, port: 26_379 }))
const naming = (host: string, epoch: number, port = 6379) => ({
  name: 'main',
  ip: host,
  port: String(port),
  'config-epoch': String(epoch),
})
const never = new Promise<never>(() => undefined)

type Answers = Readonly<Record<string, () => Promise<unknown>>>

const find = (answers: Answers) =>
  findPrimary(NODES, ({ host }) => answers[host]?.() ?? Promise.reject(new Error(`${host}: away`)))

void t.test('the one they all name', async (t) => {
  const asked: unknown[] = []
  const found = await findPrimary(NODES, (node) => {
    asked.push(node)
    return Promise.resolve(naming('10.0.0.1', 3, 6380))
  })
  t.same(found, { host: '10.0.0.1', port: 6380 })
  t.same(asked, NODES, 'all of them were asked')
})

void t.test('one that was cut off names the primary of before, and is not believed', async (t) => {
  for (const late of ['a', 'b', 'c']) {
    const answers: Record<string, () => Promise<unknown>> = {}
    for (const { host } of NODES) {
      const [name, epoch] = host === late ? ['old', 9] : ['new', 10]
      answers[host] = () => Promise.resolve(naming(name, epoch))
    }
    t.match(await find(answers), { host: 'new' }, late)
  }
})

void t.test('those that are away or hang are not waited for', async (t) => {
  t.match(await find({ c: () => Promise.resolve(naming('x', 1)) }), { host: 'x' })
  t.match(await find({ a: () => never, b: () => Promise.resolve(naming('x', 1)) }), { host: 'x' })
})

void t.test('where none answers it is the first one’s fault', async (t) => {
  await t.rejects(find({}), { message: 'a: away' })
})

void t.test('what is no answer is none', async (t) => {
  for (const odd of [
    null,
    'OK',
    [],
    { ip: 'x', port: '1' },
    naming('x', Number.NaN),
    naming('', 1),
  ]) {
    const answers = { a: () => Promise.resolve(odd), b: () => Promise.reject(new Error('away')) }
    await t.rejects(find(answers), { message: /unexpected reply/ }, JSON.stringify(odd))
  }
  const found = await find({
    a: () => Promise.resolve([]),
    b: () => Promise.resolve(naming('x', 1)),
  })
  t.match(found, { host: 'x' })
})
