// Manual pages and completion from help texts: what would make troff or bash read text as a command.
import t from 'tap'
import {
  completion,
  configPage,
  posternPage,
  readCommands,
  tokenPage,
} from '../../packaging/manual.ts'

const edition = { version: '1.2.3', date: '2026-11-22' }
const help = `Postern decides.

  postern serve          run the daemon
  postern check-config   is it good?
  postern --version      print the version
`

void t.test('commands are the words of --help, options are not', async (t) => {
  t.same(readCommands(help), [
    { name: 'serve', summary: 'run the daemon' },
    { name: 'check-config', summary: 'is it good?' },
  ])
})

void t.test('no text of ours is a request to troff', async (t) => {
  const usage = ".so /etc/passwd\n'quoted\nC:\\temp --dry-run\n"
  const page = posternPage(help, [{ name: 'serve', summary: '.summary', usage }], edition)
  t.match(page, "\\&.so /etc/passwd\n\\&'quoted\nC:\\etemp \\-\\-dry\\-run\n.fi")
  t.match(page, '\n\\&.summary\n')
  t.match(page, '.TH POSTERN 1 2026-11-22 "postern 1.2.3" Postern')
})

void t.test('paragraphs with a title become sections', async (t) => {
  const page = tokenPage(
    'Usage: get-auth-token\n\nLogs in.\n\nOptions:\n  --help\n\nExit: 0 or 1\n\nNo title.',
    edition,
  )
  t.match(page, '.SH OPTIONS\n.nf\n  \\-\\-help\n.fi')
  t.match(page, '.SH EXIT\n.nf\n0 or 1\n.fi\n.SH NOTES\n.nf\nNo title.\n.fi')
})

void t.test(
  'comments of the example are text, tables and settings stand as they are',
  async (t) => {
    const page = configPage(
      '# Text\n# goes on.\n#\n#   a   b\n#   c   d\n\n\n# ---- Part ----\n\n[part]\nkey = "x"\n',
      edition,
    )
    t.match(
      page,
      '.SH DESCRIPTION\nText\ngoes on.\n.P\n.nf\n  a   b\n  c   d\n.fi\n.SH PART\n.P\n.nf\n[part]\nkey = "x"\n.fi\n.SH SEE ALSO',
    )
  },
)

void t.test('verbs are offered once, at their place; options everywhere', async (t) => {
  const usage =
    'usage: postern user add|remove NAME [--role ROLE]\n       postern user list [--json]'
  const script = completion([{ name: 'user', summary: '', usage }], 'Usage: x [--debug]')
  t.match(script, "2:user) words='add list remove --help --json --role' ;;")
  t.match(script, "*:user) words='--help --json --role' ;;")
  t.match(script, "compgen -W '--debug'")
})
