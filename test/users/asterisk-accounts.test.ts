// From sections to users, and the samples of two PBXs as a whole.
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type AccountRule, readAccountRule, readPattern } from '../../src/config/account-rules.ts'
import { readAccounts } from '../../src/users/asterisk-accounts.ts'
import { loadAsteriskConfig } from '../../src/users/asterisk-config.ts'
import type { AccountTerms } from '../../src/users/asterisk-endpoints.ts'
import type { Section } from '../../src/users/asterisk-section.ts'

const SAMPLES = join(import.meta.dirname, '../fixtures/asterisk')
const MARK = /^[0-9a-f]{8}$/

const TERMS: AccountTerms = {
  role: 'user',
  trunkContexts: ['from-pstn*', 'from-trunk*', 'from-extern*', '*-incoming'].map(readPattern),
  rules: [],
  numberFrom: 'username',
}

const rulesOf = (...written: string[]): AccountRule[] =>
  written.map((one) => {
    const rule = readAccountRule(one)
    if ('problem' in rule) throw new Error(rule.problem)
    return rule
  })

const read = async (t: Test, text: string, terms: Partial<AccountTerms> = {}) => {
  const file = join(t.testdir({ 'pjsip.conf': text }), 'pjsip.conf')
  const { sections, problems } = await loadAsteriskConfig(file)
  t.same(problems, [])
  return readAccounts(sections, { ...TERMS, ...terms })
}

/** `[101]` as a PBX writes a phone: its sections are told apart by their types. */
const phone = (name: string, lines = '', auth = ''): string =>
  `[${name}]\ntype=endpoint\ncontext=from-internal\naors=${name}\nauth=${name}\n${lines}\n` +
  `[${name}]\ntype=aor\nmax_contacts=1\n[${name}]\ntype=auth\nusername=${name}\npassword=p-${name}\n${auth}\n`

for (const [sample, expected] of [
  [
    'freepbx',
    {
      '203': { secrets: [[MARK, { password: 'semi;colon' }]] },
      '201': { secrets: [[MARK, { password: '5e884898da28047151d0e56f8dc62927' }]] },
      '202': { secrets: [[MARK, { realm: 'pbx.example' }]] },
    },
  ],
  [
    'mikopbx',
    {
      '201': { secrets: [[MARK, { password: 'b749601f329a635a19c4a87bc359be3d' }]] },
      '202': { secrets: [[MARK, { password: 'zweihundertzwei-ü' }]] },
    },
  ],
] as const) {
  void t.test(`the ${sample} sample gives its extensions and no trunk`, async (t) => {
    const { sections, problems } = await loadAsteriskConfig(join(SAMPLES, sample, 'pjsip.conf'))
    t.same(problems, [])
    const { accounts, warnings } = await readAccounts(sections, TERMS)
    t.same(warnings, [])
    t.match(Object.fromEntries(accounts), expected)
    t.same([...accounts.keys()].sort(), Object.keys(expected).sort())
  })
}

const alone: [what: string, text: string, expected: object][] = [
  [
    'a password',
    '[a]\ntype=auth\nauth_type=userpass\nusername=a\npassword=p\n',
    {
      a: { secrets: [[MARK, { password: 'p' }]], role: 'user', displayName: 'a', disabled: false },
    },
  ],
  [
    'a username of its own',
    '[a]\ntype=auth\nusername=b\npassword=p\n',
    { b: { name: 'b', secrets: [[MARK, { password: 'p' }]] } },
  ],
  ['no password is no user', '[a]\ntype=auth\nusername=a\n', {}],
  ['nor is an empty one', '[a]\ntype=auth\nusername=a\npassword=\n', {}],
  ['nor an empty hash', '[a]\ntype=auth\nusername=a\nauth_type=md5\n', {}],
  [
    'one user twice with one password',
    '[a]\ntype=auth\nusername=a\npassword=p\n[b]\ntype=auth\nusername=a\npassword=p\n',
    { a: { secrets: [[MARK, { password: 'p' }]], credentials: [MARK] } },
  ],
  [
    'a second device with a password of its own, and one without',
    '[a]\ntype=auth\nusername=a\npassword=p\n[b]\ntype=auth\nusername=a\npassword=q\n' +
      '[c]\ntype=auth\nusername=a\n',
    {
      a: {
        secrets: [
          [MARK, { password: 'p' }],
          [MARK, { password: 'q' }],
        ],
      },
    },
  ],
  ['a template is nobody', '[a](!)\ntype=auth\nusername=a\npassword=p\n', {}],
]
for (const [what, text, expected] of alone) {
  void t.test(`auth sections alone: ${what}`, async (t) => {
    const { accounts, warnings } = await read(t, text)
    t.match(Object.fromEntries(accounts), expected)
    const names = Object.keys(expected)
    t.same([...accounts.keys()], names)
    t.match(warnings, names.length > 0 ? [/pjsip\.conf:1: only auth sections are here/] : [])
  })
}

void t.test('an auth section alone is nobody once there is anything beside it', async (t) => {
  const lone = '[a]\ntype=auth\nusername=a\npassword=p\n'
  for (const beside of [
    '[g]\ntype=global\n',
    '[a]\ntype=aor\n',
    '[e]\ntype=endpoint\nauth=other\n',
    '[e]\ntype=endpoint\noutbound_auth=a\n',
  ]) {
    const { accounts, found } = await read(t, lone + beside)
    t.equal(accounts.size, 0)
    t.match(found, [{ name: 'a', leftOut: { why: 'no endpoint names it in auth=' } }])
  }
  const rules = rulesOf('name a keep')
  t.same((await read(t, lone, { rules })).warnings, [], 'the operator has told')
  t.ok((await read(t, `${lone}[g]\ntype=global\n`, { rules })).accounts.has('a'))
  const out = await read(t, lone, { rules: rulesOf('name a leave out') })
  t.match(out.found, [{ leftOut: { why: 'the rule "name a leave out"', isMeant: true } }])
})

const STATIC = '[t]\ntype=aor\ncontact=sip:192.0.2.1\n'
const trunks: [what: string, lines: string, beside: string, why: RegExp | undefined][] = [
  ['a phone', '', '', undefined],
  ['a context of trunks', 'context=from-pstn-e164', '', /context from-pstn-e164 is one of/],
  ['the same in capitals', 'context=FROM-PSTN', '', /FROM-PSTN is one of/],
  ['a context that ends so', 'context=SIP-TRUNK-1-incoming', '', /trunk_contexts/],
  ['the last context counts', 'context=from-pstn\ncontext=from-internal', '', undefined],
  ['an identify', '', '[i]\ntype=identify\nendpoint=t\nmatch=192.0.2.1\n', /an identify names it/],
  ['an identify in another case', '', '[i]\ntype=identify\nendpoint=T\n', /an identify names it/],
  ['an identify of another', '', '[i]\ntype=identify\nendpoint=u\nmatch=t\n', undefined],
  ['a template of an identify', '', '[i](!)\ntype=identify\nendpoint=t\n', undefined],
  [
    'a registration',
    '',
    '[r]\ntype=registration\nline=yes\nendpoint=t\n',
    /a registration names it/,
  ],
  [
    'an outbound_auth that a registration shares',
    'outbound_auth=out',
    '[r]\ntype=registration\noutbound_auth=x, out\n',
    /shares its outbound_auth/,
  ],
  [
    'one that it names in another case',
    'outbound_auth=OUT',
    '[r]\ntype=registration\noutbound_auth=Out\n',
    /shares its outbound_auth/,
  ],
  ['a static contact in another case', 'aors=S', STATIC.replace('[t]', '[s]'), /static contact/],
  ['an outbound_auth alone', 'outbound_auth=t', '', undefined],
  [
    'an outbound_auth of its own',
    'outbound_auth=out',
    '[r]\ntype=registration\noutbound_auth=x\n',
    undefined,
  ],
  [
    'a static contact of one of several',
    'aors=s, u',
    `${STATIC.replace('[t]', '[u]')}[s]\ntype=aor\n`,
    /static contact/,
  ],
  ['an aor of another', 'aors=s', `${STATIC.replace('[t]', '[u]')}[s]\ntype=aor\n`, undefined],
  ['an empty contact', 'aors=s', '[s]\ntype=aor\ncontact=\n', undefined],
  ['a provider', 'set_var=A=1\nset_var = providerID=SIP-1\nset_var=B=2', '', /providerID/],
  ['a provider that is inherited', 'set_var=__PROVIDERID=SIP-1', '', /providerID/],
  ['another variable', 'set_var=myproviderID=1\nset_var=X=providerID', '', undefined],
  ['a guest of a meeting', 'context=wazo-meeting-guest', '', /a guest account/],
]
for (const [what, lines, beside, why] of trunks) {
  void t.test(`who is a person: ${what}`, async (t) => {
    const { accounts, found } = await read(t, phone('t', lines) + beside)
    t.same([...accounts.keys()], why ? [] : ['t'])
    if (why) t.match(found, [{ name: 't', wasUser: true, leftOut: { why, isMeant: false } }])
    else t.match(found, [{ name: 't', leftOut: undefined }])
    const kept = await read(t, phone('t', lines) + beside, { rules: rulesOf('name t keep') })
    t.same([...kept.accounts.keys()], ['t'], 'the operator has the last word')
  })
}

void t.test('who is a person: a static contact, from a template too', async (t) => {
  const text = `[d](!)\ntype=aor\ncontact=sip:192.0.2.1\n[s](d)\n${phone('t', 'aors=s')}`
  t.match((await read(t, text)).found, [
    { leftOut: { why: /static contact/ }, endpoint: { contacts: ['sip:192.0.2.1'] } },
  ])
})

void t.test(
  'who is a person: an endpoint of a template is judged by what it inherits',
  async (t) => {
    const text = `[trunk](!)\ntype=endpoint\ncontext=from-pstn\n[a](trunk)\nauth=a\n[b](trunk)\nauth=b\ncontext=office\n`
    const auths = ['a', 'b'].map((name) => `[${name}]\ntype=auth\nusername=${name}\npassword=p\n`)
    t.same([...(await read(t, text + auths.join(''))).accounts.keys()], ['b'])
  },
)

void t.test(
  "FreePBX's identify of an extension whose Match is set takes it out of nowhere",
  async (t) => {
    const extension = (context: string, auth: string) =>
      `[201]\ntype=endpoint\ncontext=${context}\nauth=${auth}\n[${auth}]\ntype=auth\nusername=201\npassword=p\n` +
      '[201-identify]\ntype=identify\nendpoint=201\nmatch=192.0.2.7\n'
    t.same([...(await read(t, extension('from-internal', '201-auth'))).accounts.keys()], ['201'])
    for (const other of [extension('from-internal', '201'), extension('office', '201-auth')])
      t.equal((await read(t, other)).accounts.size, 0)
    const contact = '[201]\ntype=aor\ncontact=sip:192.0.2.7\n'
    const desk =
      extension('from-internal', '201-auth').replace('auth=', 'aors=201\nauth=') + contact
    t.match((await read(t, desk)).found, [{ leftOut: { why: /static contact/ } }], 'identify alone')
  },
)

void t.test("Wazo's guests share one account: nobody's", async (t) => {
  const name = 'wazo-meeting-7d1f9a52-4d84-4a53-9d3e-0d1b7b1f7f60-guest'
  t.match((await read(t, phone(name))).found, [{ leftOut: { why: /which many share/ } }])
  t.ok((await read(t, phone('wazo-meeting-room'))).accounts.has('wazo-meeting-room'))
})

void t.test('a gateway that logs in as 202 is no second device of 202', async (t) => {
  const gateway =
    '[gw]\ntype=endpoint\ncontext=from-pstn\nauth=gw\n[gw]\ntype=auth\nusername=202\npassword=gateway\n'
  for (const text of [phone('202') + gateway, gateway + phone('202')]) {
    const { accounts, warnings } = await read(t, text)
    t.match(accounts.get('202')?.secrets, [[MARK, { password: 'p-202' }]])
    t.equal(accounts.get('202')?.secrets.length, 1)
    t.same(warnings, [])
  }
})

void t.test('a password of a trunk lets nobody in who has its hash', async (t) => {
  const person = `[201]\ntype=endpoint\ncontext=from-internal\nauth=201\n[201]\ntype=auth\nusername=201\nmd5_cred=ade7633d832d55680589ddf4446702e1\n`
  const trunk = (password: string) =>
    `[gw]\ntype=endpoint\ncontext=from-pstn\nauth=gw\n[gw]\ntype=auth\nusername=201\npassword=${password}\n`
  t.notOk((await read(t, person + trunk('p-201'))).accounts.has('201'))
  t.ok((await read(t, person + trunk('other'))).accounts.has('201'))
})

void t.test('what a trunk knows lets nobody in, and that is told', async (t) => {
  const trunk = (auth: string) => `[gw]\ntype=endpoint\ncontext=from-pstn\n${auth}\n`
  const copy = '[copy]\ntype=auth\nusername=201\npassword=p-201\n'
  const rows: [what: string, text: string, who: string][] = [
    ['one section, both ways in', trunk('auth=201'), '[gw], which is left out'],
    ['one section, in and out', trunk('outbound_auth=x,201'), '[gw], which is left out'],
    ['an earlier line of it', trunk('auth=201\nauth=other'), '[gw], which is left out'],
    ['two sections that say the same', trunk('auth=copy') + copy, '[gw], which is left out'],
    [
      'a hash of it',
      `${trunk('auth=hash')}[hash]\ntype=auth\nusername=201\nauth_type=md5\nmd5_cred=ade7633d832d55680589ddf4446702e1\n`,
      '[gw], which is left out',
    ],
    ['a registration', '[r]\ntype=registration\noutbound_auth=201\n', 'the registration [r]'],
    ['in another case', trunk('auth=COPY') + copy, '[gw], which is left out'],
    [
      'a registration by a copy',
      `[r]\ntype=registration\noutbound_auth=copy\n${copy}`,
      'the registration [r]',
    ],
  ]
  for (const [what, beside, who] of rows) {
    const { accounts, found, warnings } = await read(t, phone('201') + beside + phone('202'))
    t.same([...accounts.keys()], ['202'], what)
    const person = found.find(({ endpoint }) => endpoint.name === '201')
    t.match(person?.leftOut, { why: `its secret is also that of ${who}`, cure: /"name 201 keep"/ })
    t.match(warnings, [
      /pjsip\.conf:\d+: \[201\]: its secret is also that of .*: nobody logs in by it/,
    ])
    t.notMatch(warnings.join(), 'p-201')
    const rules = rulesOf('name 201 keep')
    const kept = await read(t, phone('201') + beside, { rules })
    t.ok(kept.accounts.has('201'), 'the operator has the last word')
  }
})

void t.test('MikoPBX gives its phones an outbound_auth: it means nothing by itself', async (t) => {
  const ws =
    '[201-WS]\ntype=endpoint\ncontext=all_peers\nauth=201\naors=201-WS\noutbound_auth=201\n'
  const { accounts, warnings } = await read(t, phone('201', 'outbound_auth=201') + ws)
  t.match([...accounts.values()], [{ name: '201', credentials: [MARK] }])
  t.same(warnings, [])
})

void t.test('rules: the first that fits decides, and a role makes nobody a user', async (t) => {
  const text =
    phone('101') + phone('102') + phone('900', 'context=from-pstn') + phone('door', 'context=Doors')
  const rows: [rules: string[], users: Record<string, string>][] = [
    [[], { '101': 'user', '102': 'user', door: 'user' }],
    [['context doors leave out'], { '101': 'user', '102': 'user' }],
    [['name door keep', 'context doors leave out'], { '101': 'user', '102': 'user', door: 'user' }],
    [['context doors leave out', 'name door keep'], { '101': 'user', '102': 'user' }],
    [['name * role staff', 'context doors leave out'], { '101': 'staff', '102': 'staff' }],
    [
      ['name 101 role admin', 'name 1?? role staff', 'name 9* keep'],
      { '101': 'admin', '102': 'staff', '900': 'user', door: 'user' },
    ],
    [['name * leave out'], {}],
  ]
  for (const [rules, users] of rows) {
    const { accounts } = await read(t, text, { rules: rulesOf(...rules) })
    const roles = [...accounts].map(([name, { role }]) => [name, role])
    t.same(Object.fromEntries(roles), users, rules.join('; '))
  }
})

void t.test(
  'a rule that fits no account is told, and one that another outweighs is not',
  async (t) => {
    const rules = rulesOf(
      'name 101 keep',
      'name 1?1 leave out',
      'name 1011 keep',
      'context from-gsm leave out',
      'name a.c role admin',
      'name x* y role staff',
    )
    const text = `${phone('101')}${phone('abc')}${phone('x(1) y')}[e]\ntype=endpoint\ncontext=from-gsm\n`
    const { accounts, warnings } = await read(t, text, { rules })
    t.same(
      [...accounts.values()].map(({ role }) => role),
      ['user', 'user', 'staff'],
    )
    t.match(warnings, [
      /^asterisk\.rules: "name 1011 keep" fits no endpoint, .*: correct it, or take it out$/,
      /^asterisk\.rules: "name a\.c role admin" fits no endpoint/,
    ])
    t.equal(warnings.length, 2)
  },
)

void t.test('a context rule says nothing of an auth section that no endpoint names', async (t) => {
  const text = `${phone('101')}[x]\ntype=auth\nusername=x\npassword=p\n`
  const { accounts } = await read(t, text, { rules: rulesOf('context * keep') })
  t.same([...accounts.keys()], ['101'])
})

void t.test('devices of one name with two roles are nobody, and that is told', async (t) => {
  const text = phone('desk', '', 'username=100') + phone('web', '', 'username=100') + phone('102')
  const { accounts, found, warnings } = await read(t, text, {
    rules: rulesOf('name web role admin'),
  })
  t.same([...accounts.keys()], ['102'])
  t.match(warnings, [/asterisk\.rules give 100 two roles: nobody logs in by that name/])
  const why = 'asterisk.rules give 100 two roles'
  t.match(found, [{ leftOut: { why } }, { leftOut: { why } }, { leftOut: undefined }])
})

void t.test('the number is the name, or stands in callerid', async (t) => {
  const text =
    phone('99201', 'callerid=Ann <201>') + phone('ab202', 'callerid="Bob" <202>') + phone('103')
  const numbers = async (numberFrom: AccountTerms['numberFrom']) =>
    [...(await read(t, text, { numberFrom })).accounts.values()].map(({ number }) => number)
  t.same(await numbers('username'), ['99201', undefined, '103'])
  t.same(await numbers('callerid'), ['201', '202', undefined])
})

void t.test('devices that say several numbers have none, and that is told', async (t) => {
  for (const other of ['callerid=Ann <202>', '']) {
    const text =
      phone('desk', 'callerid=Ann <201>', 'username=100') + phone('web', other, 'username=100')
    const { accounts, warnings } = await read(t, text, { numberFrom: 'callerid' })
    t.equal(accounts.get('100')?.number, undefined)
    t.match(warnings, [/the devices of 100 do not all say one number: no calls are theirs/])
  }
})

void t.test('several auth sections of one endpoint, and one of several endpoints', async (t) => {
  const auth = (name: string, username = name): string =>
    `[${name}]\ntype=auth\nusername=${username}\npassword=p-${name}\n`
  const text =
    `[e]\ntype=endpoint\nauth=a, b,,missing\n[f]\ntype=endpoint\nauth=b\n[g]\ntype=endpoint\n` +
    auth('a') +
    auth('b') +
    auth('c')
  const { accounts, found } = await read(t, text)
  t.same([...accounts.keys()], ['a', 'b'])
  t.same(
    found.map(({ name, endpoint, leftOut }) => [endpoint.name, name, leftOut === undefined]),
    [
      ['e', 'a', true],
      ['e', 'b', true],
      ['f', 'b', true],
      ['c', 'c', false],
    ],
  )
})

void t.test('one odd account keeps out nobody else', async (t) => {
  const odd: [what: string, auth: string, warning: RegExp | undefined][] = [
    ['a type of secret that proves nothing', 'auth_type=google_oauth', /auth_type/],
    ['a hash that is none', 'auth_type=md5\nmd5_cred=hunter2', /md5_cred/],
    ['no username', 'username=', /has no username, and Asterisk does not load it: write one/],
    ['a username with a slash', 'username=../201', /a name cannot hold : or \//],
    ['one like a machine key', 'username=key:backup', /a name cannot hold : or \//],
    ['one with a control character', 'username=a\u001Bb', /a control character in the name/],
    ['one too long', `username=${'u'.repeat(65)}`, /more than 64 bytes/],
    ['an empty secret', 'password=', undefined],
  ]
  for (const [what, auth, warning] of odd) {
    const { accounts, warnings, found } = await read(t, phone('666', '', auth) + phone('201'))
    t.same([...accounts.keys()], ['201'], what)
    t.match(warnings, warning ? [warning] : [])
    t.equal(warnings.length, warning ? 1 : 0)
    t.notMatch(warnings.join(), /hunter|p-666/)
    t.equal(found.length, 2)
  }
})

void t.test('two auth sections of one name let nobody in, and keep out nobody else', async (t) => {
  const auth = (username: string, password: string): string =>
    `[201]\ntype=auth\nusername=${username}\npassword=${password}\n`
  const device = (password: string): string =>
    `[201-web]\ntype=endpoint\nauth=201-web\n[201-web]\ntype=auth\nusername=201\npassword=${password}\n`
  const twice = phone('201', '', 'password=hunter1') + auth('209', 'hunter2')
  const { accounts, found, warnings } = await read(t, twice + phone('202'))
  t.same([...accounts.keys()], ['202'])
  t.match(
    found.map(({ name, leftOut }) => [name, leftOut?.why]),
    [
      ['201', /^it stands there twice as type=auth, first at .*:10: .*: rename one$/],
      ['209', /^it stands there twice/],
      ['202', undefined],
    ],
    'whom it would have let in is told for both',
  )
  t.match(warnings, [/pjsip\.conf:15: \[201\] stands there twice as type=auth, first at .*:10: /])
  t.equal(warnings.length, 1)
  t.notMatch(warnings.join() + JSON.stringify(found), /hunter/)

  const again = await read(t, phone('201') + auth('201', 'p-201') + auth('201', 'three'))
  t.same([...again.accounts.keys()], [], 'also where both say the same, or there are three')
  t.match(again.warnings, [/:15: \[201\] .* first at .*:10: /, /:19: \[201\] .* first at .*:10: /])

  const other = await read(t, twice + device('hunter2'))
  t.same([...other.accounts.keys()], ['201'], 'another section of that user counts')
  const trunk = twice.replace('from-internal', 'from-pstn').replace('=209', '=201')
  for (const known of ['hunter1', 'hunter2']) {
    const { accounts, warnings } = await read(t, trunk + device(known))
    t.same([...accounts.keys()], [], 'what a trunk may know of it lets nobody in')
    t.match(warnings, [/twice/, /its secret is also that of \[201\], which is left out/])
  }
})

void t.test('a broken section takes logins away and gives none', async (t) => {
  const gsm = '[gsm]\ntype=endpoint\nauth=gsm\naors=gsm\n'
  const secret = '[gsm]\ntype=auth\nusername=202\npassword=p-202\n'
  const rows: [what: string, text: string, users: string[]][] = [
    [
      'an auth section',
      phone('201').replaceAll('[201]\ntype=auth', '[201](t)\ntype=auth'),
      ['202'],
    ],
    ['an endpoint', phone('201').replace('[201]', '[201](t)'), ['202']],
    ['one without its type', phone('201').replace('[201]\ntype=endpoint', '[201](t)'), ['202']],
    ['a trunk', `${gsm.replace('[gsm]', '[gsm](t)')}${secret}`, []],
    ['a trunk without its type', `${gsm.replace('[gsm]\ntype=endpoint', '[gsm](t)')}${secret}`, []],
    ['what identifies it', `${gsm}${secret}[i](t)\ntype=identify\nendpoint=gsm\n`, []],
    ['that without its type', `${gsm}${secret}[i](t)\nendpoint=gsm\n`, []],
    ['its aor', `${gsm}${secret}[gsm](t)\ncontact=sip:192.0.2.1\n`, []],
    ['its aor, without its contact', `${gsm}${secret}[gsm](t)\ntype=aor\n`, []],
    ['its aor, left open', `${gsm}${secret}[gsm(a)\ntype=aor\ncontact=sip:192.0.2.1\n`, []],
    ['an addition left open', `${gsm}${secret}[gsm](+\ncontext=from-pstn\n`, []],
    ['another', `${gsm}${secret}[gsm(+)\ncontext=from-pstn\n`, []],
    ['what identifies it, by its name', `${gsm}${secret}[gsm](t)\ntype=identify\n`, []],
    ['its auth section', `${gsm}context=from-pstn\n${secret.replace(']', '](t)')}`, []],
    ['what is nothing here', '[x](t)\nfoo=1\n', ['202']],
  ]
  for (const [what, text, users] of rows) {
    const { accounts, warnings } = await read(t, text + phone('202'))
    t.same([...accounts.keys()], users, what)
    t.notMatch(warnings.join(), /p-20/)
  }
  const lone = '[x](t)\nfoo=1\n[201]\ntype=auth\nusername=201\npassword=one\n'
  t.same([...(await read(t, lone)).accounts.keys()], ['201'], 'auth sections are still alone')
  const only = '[e](!)\ntype=endpoint\n[gw](e\n[gw]\ntype=auth\nusername=gw\npassword=one\n'
  t.same([...(await read(t, only)).accounts.keys()], [], 'it is a trunk’s')
  const { found } = await read(t, phone('201').replace('[201]', '[201](t)'))
  t.match(found, [{ leftOut: { why: 'its section is broken: mend it' } }])
})

void t.test('the odd secret of a trunk is nobody’s business', async (t) => {
  const text = phone('t', 'context=from-pstn', 'auth_type=google_oauth')
  const { warnings, found } = await read(t, text)
  t.same(warnings, [])
  t.match(found, [{ leftOut: { why: /from-pstn/, cure: /^it has an auth_type/, isMeant: false } }])
  const rules = rulesOf('context from-pstn leave out')
  t.match((await read(t, text, { rules })).found, [{ leftOut: { isMeant: true } }])
})

void t.test('what earlier versions took for a user', async (t) => {
  const rows: [text: string, wasUser: boolean][] = [
    [phone('201'), true],
    [phone('201', 'context=from-pstn'), true],
    [phone('201', 'outbound_auth=201'), true],
    ['[a]\ntype=auth\nusername=a\npassword=p\n[e]\ntype=endpoint\noutbound_auth=a\n', false],
    ['[a]\ntype=auth\nusername=a\npassword=p\n[r]\ntype=registration\noutbound_auth=a\n', false],
    ['[a]\ntype=auth\nusername=a\n', false],
    ['[a]\ntype=auth\npassword=p\n', true],
  ]
  for (const [text, wasUser] of rows) t.match((await read(t, text)).found, [{ wasUser }], text)
})

void t.test('earlier versions read no wizard, so nobody loses a login by it', async (t) => {
  const folder = t.testdir({
    'pjsip.conf': '[g]\ntype=global\n',
    'pjsip_wizard.conf':
      '[gw]\ntype=wizard\naccepts_auth=yes\ninbound_auth/username=gw\ninbound_auth/password=p\n' +
      'remote_hosts=192.0.2.1\nendpoint/context=from-pstn\n',
  })
  const { sections } = await loadAsteriskConfig(join(folder, 'pjsip.conf'))
  const { found } = await readAccounts(sections, TERMS)
  t.match(found, [{ name: 'gw', wasUser: false, leftOut: { why: String } }])
})

void t.test('the mark follows the secret, tells it not, and differs between users', async (t) => {
  const marks = async (text: string): Promise<(string | undefined)[]> => {
    const { accounts } = await read(t, text)
    return ['a', 'b'].map((name) => accounts.get(name)?.credential)
  }
  const [a, b] = await marks(phone('a', '', 'password=p') + phone('b', '', 'password=p'))
  t.match(a, MARK)
  t.not(a, b)
  const [again, changed] = await marks(phone('a', '', 'password=p') + phone('b', '', 'password=q'))
  t.equal(again, a)
  t.not(changed, b)
})

const phoneSections = (count: number): Section[] =>
  Array.from({ length: count }, (_, index): Section[] => {
    const name = String(index)
    const section = (variables: Record<string, string>): Section => ({
      broken: false,
      name,
      template: false,
      place: `pjsip.conf:${index}`,
      variables: Object.entries(variables).map(([key, value]) => ({
        name: key,
        written: key,
        value,
      })),
    })
    return [
      section({ type: 'endpoint', context: 'from-internal', aors: name, auth: name }),
      section({ type: 'aor', max_contacts: '1' }),
      section({ type: 'auth', username: name, password: `secret-${name}` }),
    ]
  }).flat()

void t.test('10,000 phones take about four times what 2,500 take, in slices', async (t) => {
  const took: number[] = []
  for (const count of [2500, 10_000]) {
    const sections = phoneSections(count)
    const before = process.cpuUsage()
    let turns = 0
    const beat = setInterval(() => turns++, 1)
    const { accounts } = await readAccounts(sections, TERMS)
    clearInterval(beat)
    const { user, system } = process.cpuUsage(before)
    took.push((user + system) / 1000)
    t.equal(accounts.size, count)
    t.ok(turns > 5, `${turns} turns`)
  }
  const [few = 0, many = 0] = took
  t.ok(many < 12 * few, `${Math.round(few)} and ${Math.round(many)} ms`)
})
