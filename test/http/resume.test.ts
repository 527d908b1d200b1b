// Which of a client's message ids may reach Nchan: those in exactly the form in which it hands them out.

import { assert, constantFrom, oneof, property, string, stringMatching } from 'fast-check'
import t from 'tap'

import { readResume } from '../../src/http/resume.ts'

const ID = '1795815721:[0],-'
const DATE = 'Fri, 27 Nov 2026 21:42:01 GMT'

/** The same of a stream with one channel. */
const alone = (text: string | undefined): string | undefined =>
  text?.replaceAll(/(?:\[|%5B)(\d+)(?:\]|%5D)(?:,|%2C)-/g, '$1')

void t.test('each door, as Nchan writes it', (t) => {
  const rows: [what: string, said: string, uri: string, id: string | undefined][] = [
    ['nothing', '||', '/sub/x', undefined],
    ['not even bars', '', '/sub/x', undefined],
    ['Last-Event-ID', `||${ID}`, '/sub/x', ID],
    ['the last of ten thousand in a second', '||1795815721:[9999],-', '/', '1795815721:[9999],-'],
    ['a query', '||', `/sub/x?last_event_id=${encodeURIComponent(ID)}`, ID],
    ['a query that is not encoded', '||', `/sub/x?a=b&Last_Event_Id=${ID}`, ID],
    ['both: the header', `||${ID}`, '/sub/x?last_event_id=1795815722:[1],-', ID],
    ['a header of JavaScript, and a query', '||undefined', `/sub/x?last_event_id=${ID}`, ID],
    ['a long-poll', `${DATE}|[0],-|`, '/', ID],
    ['its ETag as proxies write it', `${DATE}|W/"[0],-"|`, '/', ID],
    ['an ETag that is a whole id', `|${ID}|`, '/', ID],
    ['the same beside the epoch', `Thu, 01 Jan 1970 00:00:00 GMT|${ID}|`, '/', ID],
    ['a long-poll counts more than Last-Event-ID', `${DATE}|[3],-|${ID}`, '/', '1795815721:[3],-'],
  ]
  for (const [what, said, uri, id] of rows) {
    t.equal(readResume(said, uri, 'two'), id, what)
    // What a client was told of a stream with one channel alone.
    const [one, oneSaid, oneUri] = [id, said, uri].map(alone)
    t.equal(readResume(String(oneSaid), String(oneUri), 'one'), one, `${what}, of one channel`)
  }
  t.end()
})

void t.test('what Nchan never wrote is nothing', (t) => {
  const ids = [
    'undefined',
    'null',
    '',
    'x',
    ':',
    '0:-1',
    '0:32768',
    '0:[-1],-',
    '0:[0],-',
    ID.slice(1),
    `${ID}0`,
    `1${ID}`,
    ` ${ID}`,
    `${ID}\n`,
    '1795815721:[0]',
    '1795815721:',
    '1795815721:-1',
    '1795815721:32768',
    '1795815721:[0],0',
    '1795815721:[10000],-',
    '1795815721:[-1],-',
    '1795815721:-,[0]',
  ]
  for (const id of ids) {
    for (const channels of ['one', 'two'] as const) {
      t.equal(readResume(`||${id}`, '/', channels), undefined, `Last-Event-ID ${id}`)
      const query = `/?last_event_id=${encodeURIComponent(id)}`
      t.equal(readResume('||', query, channels), undefined, `query ${id}`)
      t.equal(readResume(`|${id}|`, '/', channels), undefined, `If-None-Match ${id}`)
    }
  }
  const polls = [
    `${DATE}|`,
    `${DATE}|0`,
    `${DATE}|[32768],-`,
    `${DATE}|[-1],-`,
    `${DATE}|"W/[0],-`,
    '|[0],-',
    'x|[0],-',
    'undefined|[0],-',
    'Thu, 01 Jan 1970 00:00:00 GMT|[0],-',
    `${DATE.toLowerCase()}|[0],-`,
    'Friday, 27-Nov-26 21:42:01 GMT|[0],-',
    'Fri, 31 Nov 2026 21:42:01 GMT|[0],-',
    'Fri, 27 Nov 12026 21:42:01 GMT|[0],-',
    'Invalid Date|[0],-',
    `x|${DATE}`,
  ]
  for (const poll of polls) t.equal(readResume(`${poll}|${ID}`, '/', 'two'), undefined, poll)
  t.equal(readResume(`||${ID}|`, '/', 'two'), undefined, 'a bar of the client')
  t.equal(readResume('||', '/?last_event_id=%', 'one'), undefined, 'no percent-encoding')
  t.end()
})

void t.test('an id of the other form is written as Nchan takes it, or is nothing', (t) => {
  const one = '1795815721:0'
  t.equal(readResume(`||${ID}`, '/', 'one'), one)
  t.equal(readResume(`||${one}`, '/', 'two'), ID)
  t.equal(readResume('||', `/?last_event_id=${one}`, 'two'), ID)
  // Nchan reads a long-poll's own headers.
  for (const poll of [`${DATE}|[0],-|`, `|${ID}|`]) {
    t.equal(readResume(poll, '/', 'one'), undefined, poll)
  }
  for (const poll of [`${DATE}|0|`, `|${one}|`]) t.equal(readResume(poll, '/', 'two'), undefined)
  t.end()
})

void t.test('whatever is said, only the one form comes out', (t) => {
  const odd = oneof(
    string(),
    stringMatching(/^[0-9:[\],-]{0,24}$/),
    constantFrom(ID, DATE, '[0],-', '0:-1', '', '|'),
  )
  assert(
    property(odd, odd, odd, odd, (since, etag, last, query) => {
      const [one, two] = (['one', 'two'] as const).map((channels) =>
        readResume(`${since}|${etag}|${last}`, `/x?last_event_id=${query}`, channels),
      )
      return (
        /^(?:undefined|[0-9]{10}:[0-9]{1,4})$/.test(String(one)) &&
        /^(?:undefined|[0-9]{10}:\[[0-9]{1,4}\],-)$/.test(String(two))
      )
    }),
  )
  t.end()
})
