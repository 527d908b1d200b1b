// What of the package is made, and not copied: node packaging/build.ts TREE VERSION EPOCH RUNTIME SBOM writes below
// TREE. script/package does the rest. It must write the same bytes for the same tree, version and time.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { bundle } from './bundle.ts'
import { changelog } from './changelog.ts'
import { copyright } from './licences.ts'
import { completion, configPage, posternPage, readCommands, tokenPage } from './manual.ts'
import { sbom } from './sbom.ts'

const ROOT = join(import.meta.dirname, '..')
const [tree = '', version = '', epoch = '', runtime = '', sbomFile = ''] = process.argv.slice(2)
const date = new Date(Number(epoch) * 1000)

const source = (file: string): string => readFileSync(join(ROOT, file), 'utf8')
const write = (file: string, text: string): void => {
  const path = join(tree, file)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}

const programs = join(tree, 'usr/lib/postern')
const { packages } = await bundle(programs, version)

/** get-auth-token says its help on stderr: its stdout is a token's alone. */
const helpOf = (...command: readonly string[]): string =>
  execFileSync('sh', ['-c', '"$@" --help 2>&1', 'sh', process.execPath, ...command], {
    encoding: 'utf8',
  })
const main = join(programs, 'postern.mjs')
const help = helpOf(main)
const commands = readCommands(help).map(({ name, summary }) => ({
  name,
  summary,
  usage: helpOf(main, name),
}))
const tokenHelp = helpOf(join(programs, 'get-auth-token.mjs'))

const edition = { version, date: date.toISOString().slice(0, 10) }
write('usr/share/man/man1/postern.1', posternPage(help, commands, edition))
write('usr/share/man/man1/get-auth-token.1', tokenPage(tokenHelp, edition))
write('usr/share/man/man5/postern.toml.5', configPage(source('postern.example.toml'), edition))
write('usr/share/bash-completion/completions/postern', completion(commands, tokenHelp))
write(
  'usr/share/doc/postern/copyright',
  copyright(source('LICENSE'), packages.values(), join(ROOT, runtime)),
)
write('usr/share/doc/postern/changelog', changelog(source('CHANGELOG.md'), version, date))
writeFileSync(
  sbomFile,
  sbom(ROOT, packages.values(), { version, date, nodePackage: basename(runtime) }),
)
