// Manual pages and completion, made from what the commands themselves say: the text of --help and the example
// configuration. Nothing here may say anything of its own about a command or a setting: it would grow old.

export interface CommandHelp {
  name: string
  summary: string
  /** What `postern NAME --help` prints. */
  usage: string
}

export interface Edition {
  version: string
  /** YYYY-MM-DD */
  date: string
}

/** The rows of `postern --help`: each command and its one line. */
export const readCommands = (help: string): { name: string; summary: string }[] =>
  Array.from(help.matchAll(/^ {2}postern ([a-z-]+) +(\S.*)$/gm), ([, name = '', summary = '']) => ({
    name,
    summary,
  })).filter(({ name }) => !name.startsWith('-'))

// ---- manual pages (man(7)): every line of ours is text, whatever it begins with

const escape = (text: string): string =>
  text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll(/^(?=[.'])/gm, String.raw`\&`)

const asItStands = (text: string): string => `.nf\n${escape(text)}\n.fi`

const begin = (name: string, section: number, line: string, { version, date }: Edition): string =>
  [
    `.TH ${name.toUpperCase()} ${section} ${date} "postern ${version}" Postern`,
    '.SH NAME',
    `${escape(name)} \\- ${escape(line)}`,
  ].join('\n')

const page = (...parts: readonly string[]): string => `${parts.join('\n')}\n`

const SEE_ALSO = [
  '.SH SEE ALSO',
  '.BR postern (1),',
  '.BR get\\-auth\\-token (1),',
  '.BR postern.toml (5),',
  '.I /usr/share/doc/postern/README.md.gz',
].join('\n')

/** postern(1), from `postern --help` and the --help of each command. */
export const posternPage = (
  help: string,
  commands: readonly CommandHelp[],
  edition: Edition,
): string => {
  const [about = ''] = help.split('\n')
  return page(
    begin('postern', 1, 'guards what nginx serves, and gives clients their tokens', edition),
    '.SH SYNOPSIS\n.B postern\n.I COMMAND\n[\\fIOPTION\\fR]...',
    `.SH DESCRIPTION\n${escape(about)}`,
    '.SH COMMANDS',
    ...commands.map(({ name, summary, usage }) =>
      [`.SS ${name}`, escape(summary), '.P', asItStands(usage.trimEnd())].join('\n'),
    ),
    SEE_ALSO,
  )
}

/** get-auth-token(1), from its --help: paragraphs, of which some have a word and a colon as their title. */
export const tokenPage = (help: string, edition: Edition): string => {
  const [usage = '', about = '', ...sections] = help.trimEnd().split('\n\n')
  return page(
    begin('get-auth-token', 1, 'logs in and prints the access token', edition),
    `.SH SYNOPSIS\n${asItStands(usage.replace(/^Usage: /, ''))}`,
    `.SH DESCRIPTION\n${asItStands(about)}`,
    ...sections.map((section) => {
      const [heading, title] = /^(\w+):\s/.exec(section) ?? ['', 'NOTES']
      return `.SH ${title.toUpperCase()}\n${asItStands(section.slice(heading.length))}`
    }),
    SEE_ALSO,
  )
}

/** postern.toml(5), from the example: its comments are the text, its settings stand as they are. */
export const configPage = (example: string, edition: Edition): string => {
  const lines = example.split('\n').map((line) => {
    const title = /^# -{4} (.+?) -+$/.exec(line)?.[1]
    if (title !== undefined) return `.SH ${escape(title).toUpperCase()}`
    if (line === '' || line === '#') return '.P'
    // A table, or an example: two spaces or more keep their lines apart.
    if (line.startsWith('#   ')) return asItStands(line.slice(2))
    if (line.startsWith('# ')) return escape(line.slice(2))
    return asItStands(line)
  })
  const body = lines
    .join('\n')
    .replaceAll('\n.fi\n.nf\n', '\n')
    .replaceAll(/(?:\n\.P)+(?=\n\.(?:P|SH)|$)/g, '')
  return page(
    begin('postern.toml', 5, 'configuration of Postern', edition),
    `.SH DESCRIPTION\n${body}`,
    SEE_ALSO,
  )
}

// ---- completion

const sorted = (words: Iterable<string>): string => [...new Set(words)].sort().join(' ')

const optionsOf = (usage: string): string[] =>
  Array.from(usage.matchAll(/--[a-z][a-z-]*/g), ([option]) => option)

/** `postern user disable|enable NAME` → disable, enable */
const verbsOf = ({ name, usage }: CommandHelp): string[] =>
  Array.from(usage.matchAll(new RegExp(`postern ${name} ([a-z][a-z|-]*)`, 'g')), ([, verbs = '']) =>
    verbs.split('|'),
  ).flat()

/** A bash completion: a command, then its verbs and options; where no word of ours fits, a file's name. */
export const completion = (commands: readonly CommandHelp[], tokenHelp: string): string => `\
# bash completion for postern(1) and get-auth-token(1), made from their --help.
_postern() {
    local words
    case $COMP_CWORD:\${COMP_WORDS[1]} in
        1:*) words='${sorted([...commands.map(({ name }) => name), '--help', '--version'])}' ;;
${commands
  .map((command) => {
    const options = sorted([...optionsOf(command.usage), '--help'])
    const verbs = sorted(verbsOf(command))
    return `        2:${command.name}) words='${`${verbs} ${options}`.trim()}' ;;\n        *:${command.name}) words='${options}' ;;`
  })
  .join('\n')}
        *) words= ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}")
}
_get_auth_token() {
    mapfile -t COMPREPLY < <(compgen -W '${sorted(optionsOf(tokenHelp))}' -- "\${COMP_WORDS[COMP_CWORD]}")
}
complete -o default -F _postern postern
complete -o default -F _get_auth_token get-auth-token
`
