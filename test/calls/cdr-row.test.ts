// Which recording a row names, and who is surely a party: a number that somebody shows is none.
import t from 'tap'

import { CDR_COLUMNS, type CdrRow, readCdrRow } from '../../src/calls/cdr-row.ts'

const PREFIXES = ['/storage/usbdisk1/mikopbx/astspool/monitor', '/storage/usbdisk1', '/var/spool']
const FILE = '/storage/usbdisk1/mikopbx/astspool/monitor/2026/11/28/10/mikopbx-1.1_a.mp3'

const ROW: CdrRow = {
  file: FILE,
  seconds: '55',
  source: '201',
  source_channel: 'PJSIP/201-0000000a',
  source_account: '201',
  destination: '202',
  destination_channel: 'PJSIP/202-0000000b',
  destination_account: '202',
  app: '0',
}

const parties = (row: Partial<CdrRow>) => readCdrRow({ ...ROW, ...row }, PREFIXES)?.parties

const NOBODY: readonly string[] = []
const CALLER = ['201']
const CALLED = ['202']

const PARTIES: readonly (readonly [string, Partial<CdrRow>, readonly string[]])[] = [
  ['both', {}, ['201', '202']],
  ['with oneself', { destination: '201', destination_channel: 'PJSIP/201-0000000b' }, CALLER],
  // What an outsider can do.
  ['an outsider shows 201', { source_channel: 'PJSIP/carrier-0000000a' }, CALLED],
  ['even where an account says otherwise', { source_channel: 'SIP/x-0000000a' }, CALLED],
  ['an outsider shows 201, by account', { source_channel: '', source_account: 'carrier' }, CALLED],
  ['201 was dialled and a trunk answered', { destination: '201', source: '+7999' }, NOBODY],
  ['a trunk with a number in its name', { source_channel: 'PJSIP/carrier-201-0000000a' }, CALLED],
  ['a trunk that ends in a number', { source_channel: 'PJSIP/trunk201-0000000a' }, CALLED],
  ['a trunk that begins with one', { source_channel: 'PJSIP/201-trunk-0000000a' }, CALLED],
  ['one that looks like a channel', { source_channel: 'PJSIP/201-deadbeef-0000000a' }, CALLED],
  ['without the end of a channel', { source_channel: 'PJSIP/201' }, CALLED],
  ['with a short end', { source_channel: 'PJSIP/201-0000001' }, CALLED],
  ['a desk that is named after 201', { source_channel: 'PJSIP/201-desk-0000001a' }, CALLED],
  ['a domain', { source_channel: 'PJSIP/201@carrier-0000000a' }, CALLED],
  ['a driver that is none', { source_channel: 'XPJSIP/201-0000000a' }, CALLED],
  ['a port of a card', { source: '1', source_channel: 'DAHDI/1-1' }, CALLED],
  ['what was dialled', { source_channel: 'Local/201@internal-0000000a;2' }, CALLED],
  ['a local channel with an account', { source_channel: 'Local/201-0000000a' }, CALLED],
  ['half a channel', { source_channel: 'PJSIP/201-0000000a;1' }, CALLED],
  ['a channel that was taken over', { source_channel: 'PJSIP/201-0000000a<ZOMBIE>' }, CALLED],
  ['two lines', { source_channel: 'PJSIP/x-0000000a\nPJSIP/201-0000000a' }, CALLED],
  // Whose channel it is, in each of its forms.
  ['chan_sip', { source_channel: 'SIP/201-0000ABCD' }, ['201', '202']],
  ['IAX', { source_channel: 'IAX2/201-12345' }, ['201', '202']],
  ['another peer of IAX', { source_channel: 'IAX2/201-5-12345' }, CALLED],
  ['in small letters', { source_channel: 'pjsip/201-0000000a' }, ['201', '202']],
  ['a browser of MikoPBX', { source_channel: 'PJSIP/201-WS-0000000a' }, ['201', '202']],
  ['another suffix', { source_channel: 'PJSIP/201-ws-0000000a' }, CALLED],
  ['by account, no channel', { source_channel: null, source_account: '201-WS' }, ['201', '202']],
  ['by account, no column', { source_channel: undefined }, ['201', '202']],
  ['neither in this row', { source_channel: '', source_account: '' }, CALLED],
  ['nor NULL', { source_channel: null, source_account: null }, CALLED],
  ['no column, and no account', { source_channel: undefined, source_account: null }, CALLED],
  ['no such columns', { source_channel: undefined, source_account: undefined }, ['201', '202']],
  // Numbers.
  ['0202 is another', { destination: '0202' }, CALLER],
  ['a plus', { destination: '+202', destination_channel: 'PJSIP/+202-0000000b' }, CALLER],
  ['a code', { destination: '*97', destination_channel: undefined }, CALLER],
  ['a group', { destination: '202&203', destination_channel: 'PJSIP/202-0000000b' }, CALLER],
  ['digits of another script', { destination: '٢٠٢', destination_account: undefined }, CALLER],
  ['a name', { destination: 'anna', destination_channel: 'PJSIP/anna-0000000b' }, CALLER],
  ['too long for a number', { source: '1'.repeat(16), source_account: undefined }, CALLED],
  ['none', { destination: null }, CALLER],
  ['empty', { destination: '' }, CALLER],
  // Who only rang, and what is no person.
  ['not answered', { seconds: '0' }, NOBODY],
  ['nor by halves', { seconds: '0.0' }, NOBODY],
  ['answered for a moment', { seconds: '0.4' }, ['201', '202']],
  ['a real number', { seconds: '55.0' }, ['201', '202']],
  ['no duration', { seconds: null }, NOBODY],
  ['an empty one', { seconds: '' }, NOBODY],
  ['a negative one', { seconds: '-1' }, NOBODY],
  ['text', { seconds: 'yes' }, NOBODY],
  ['a queue or a conference', { app: '1' }, NOBODY],
  ['whatever it is called', { app: 'queue' }, NOBODY],
  ['no application', { app: null }, ['201', '202']],
  ['none said', { app: '' }, ['201', '202']],
  ['no such column', { app: undefined }, ['201', '202']],
]

void t.test('a party is a number whose channel agrees, of a call that was answered', (t) => {
  for (const [what, row, expected] of PARTIES) t.same(parties(row), expected, what)
  t.end()
})

const PATHS: readonly (readonly [string | null, string | undefined])[] = [
  [FILE, '2026/11/28/10/mikopbx-1.1_a.mp3'],
  ['/storage/usbdisk1/other/a.wav', 'other/a.wav'],
  ['/var/spool/a.wav', 'a.wav'],
  ['/var//spool/a.wav', undefined],
  ['/var/spool//x/./a.wav', 'x/a.wav'],
  ['2026/11/a.wav', '2026/11/a.wav'],
  ['a.wav', 'a.wav'],
  ['./a.wav', 'a.wav'],
  ['/var/spool/ä b.wav', 'ä b.wav'],
  ['/var/spoolx/a.wav', undefined],
  ['/etc/passwd', undefined],
  ['/var/spool/../a.wav', undefined],
  ['x/../a.wav', undefined],
  ['/var/spool/', undefined],
  ['/var/spool', undefined],
  ['x/', undefined],
  ['.', undefined],
  ['', undefined],
  ['  ', undefined],
  ['-', undefined],
  [null, undefined],
  ['http://pbx.example.com/a.wav', undefined],
  ['s3:bucket/a.wav', undefined],
  ['a\0.wav', undefined],
  ['a\n.wav', undefined],
  ['\uFFFD.wav', undefined],
  ['\uD800.wav', undefined],
]

void t.test('a row belongs to the file at its path below the folder', (t) => {
  for (const [file, path] of PATHS) {
    t.equal(readCdrRow({ ...ROW, file }, PREFIXES)?.path, path, JSON.stringify(file))
  }
  t.equal(readCdrRow(ROW, [])?.path, undefined, 'without a prefix')
  t.end()
})

void t.test('the columns are MikoPBX’s', (t) => {
  t.match(CDR_COLUMNS, { file: 'recordingfile', source_channel: 'src_chan', app: 'is_app' })
  t.end()
})
