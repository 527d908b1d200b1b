// What a list shows of a user: everything but the hash.
import t from 'tap'
import { formatAccounts, formatUsers, toAccountRow, toUserRow } from '../../src/cli/user-list.ts'
import type { Candidate } from '../../src/users/asterisk-accounts.ts'

const anna = {
  name: '201',
  role: 'user',
  displayName: 'Anna',
  credential: 'mark',
  stored: '$argon2id$secret',
  kind: 'argon2id' as const,
  weak: false,
  disabled: false,
}

void t.test('a row', async (t) => {
  const row = {
    name: '201',
    id: 1,
    role: 'user',
    display_name: 'Anna',
    disabled: false,
    hash: 'argon2id',
    flags: [],
  }
  t.same(toUserRow(anna, 1), row)
  t.same(toUserRow({ ...anna, disabled: true }, undefined), { ...row, id: null, disabled: true })
  t.same(toUserRow({ ...anna, kind: 'bcrypt', weak: true }, '1'), {
    ...row,
    id: null,
    hash: 'bcrypt',
    flags: ['bcrypt', 'weak'],
  })
})

void t.test('a table', async (t) => {
  t.equal(formatUsers([]), 'NAME  ID  ROLE  STATE  HASH  DISPLAY NAME')
  t.equal(
    formatUsers([
      toUserRow(anna, 12),
      toUserRow({ ...anna, name: 'someone', role: 'admin', weak: true, disabled: true }, undefined),
    ]),
    [
      'NAME     ID  ROLE   STATE     HASH             DISPLAY NAME',
      '201      12  user   enabled   argon2id         Anna',
      'someone  -   admin  disabled  argon2id (weak)  Anna',
    ].join('\n'),
  )
})

const phone: Candidate = {
  name: '201',
  number: '201',
  place: 'pjsip.conf:1',
  wasUser: true,
  endpoint: {
    name: '201',
    place: 'pjsip.conf:2',
    context: 'from-internal',
    callerid: 'Ann <201>',
    contacts: [],
    auths: ['201'],
    known: ['201'],
    role: 'staff',
    rules: [],
    isKept: false,
  },
}
const leftOut = { why: 'an identify names it', cure: '…', isMeant: false }
const trunk: Candidate = {
  name: 'car\u001Brier',
  place: 'pjsip.conf:9',
  wasUser: true,
  endpoint: {
    ...phone.endpoint,
    name: 'gw',
    context: '',
    callerid: '',
    contacts: ['sip:a', 'sip:b'],
  },
  leftOut,
}

void t.test('an account of Asterisk, and why it is none', async (t) => {
  t.same(toAccountRow(phone), {
    name: '201',
    number: '201',
    role: 'staff',
    endpoint: '201',
    context: 'from-internal',
    callerid: 'Ann <201>',
    contacts: [],
    left_out: null,
  })
  t.match(toAccountRow(trunk), {
    name: 'car?rier',
    number: null,
    role: null,
    left_out: leftOut.why,
  })
  t.equal(
    formatAccounts([phone, trunk].map(toAccountRow)),
    [
      'NAME      NUMBER  ROLE   ENDPOINT  CONTEXT        CALLERID   CONTACTS     LEFT OUT',
      '201       201     staff  201       from-internal  Ann <201>  -            -',
      'car?rier  -       -      gw        -              -          sip:a sip:b  an identify names it',
    ].join('\n'),
  )
})
