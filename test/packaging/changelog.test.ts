// CHANGELOG.md in dpkg's form: the right section, short lines, a time that dpkg reads.
import t from 'tap'
import { changelog } from '../../packaging/changelog.ts'

const markdown = `# Changelog

## Unreleased

- [BUGFIX] One.

## 1.0.0

- [FEATURE] ${'word '.repeat(30)}
  and the rest.
- [FEATURE] Two.
`
const date = new Date(0)

void t.test('the section of the version, in lines that are short enough', async (t) => {
  const text = changelog(markdown, '1.0.0', date)
  t.match(text, /^postern \(1\.0\.0\) stable; urgency=medium\n\n {2}\* \[FEATURE\] word/)
  t.match(text, '\n  * [FEATURE] Two.\n\n -- The Postern authors <')
  t.notMatch(text, 'BUGFIX')
  for (const line of text.split('\n -- ')[0]?.split('\n') ?? []) t.ok(line.length <= 80, line)
  t.match(text, '  Thu, 01 Jan 1970 00:00:00 +0000\n')
})

void t.test('a version that has no section yet is what is not released yet', async (t) => {
  t.match(changelog(markdown, '2.0.0', date), '  * [BUGFIX] One.\n')
})

void t.test('an empty changelog is no reason to fail', async (t) => {
  t.match(changelog('# Changelog\n', '2.0.0', date), /^postern \(2\.0\.0\)/)
})
