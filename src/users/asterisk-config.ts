// The SIP accounts of an Asterisk as its files say them: pjsip.conf, and pjsip_wizard.conf beside it where there is one.
import { dirname, join } from 'node:path'
import { inSlices } from '../clock.ts'
import { loadAsteriskFile } from './asterisk-file.ts'
import { readType } from './asterisk-section.ts'
import type { Section } from './asterisk-section.ts'
import { readWizards } from './asterisk-wizard.ts'

const SLICE = 2000 // sections, 2 ms

const keyOf = (section: Section): string => `${readType(section)}\n${section.name}`

/** It does not throw: what cannot be read is a problem, and what Asterisk passes over a warning. */
export const loadAsteriskConfig = async (root: string) => {
  const main = await loadAsteriskFile(root)
  const beside = await loadAsteriskFile(join(dirname(root), 'pjsip_wizard.conf'))
  const wizards = await readWizards(beside.sections)
  const problems = [...main.problems, ...beside.problems]
  if (!main.isThere && main.problems.length === 0) {
    problems.push(
      `${root}: cannot be read (ENOENT): correct the name, or add the user of the service to the group of Asterisk`,
    )
  }

  const twice: string[] = [] // of auth sections whoever reads them says it
  const written = new Set<string>()
  for await (const section of inSlices(main.sections, SLICE)) {
    const type = readType(section)
    if (section.template || type === undefined) continue
    const key = keyOf(section)
    if (written.has(key) && ['endpoint', 'aor'].includes(type)) {
      twice.push(
        `${section.place}: [${section.name}] of type ${type} stands there twice, and Asterisk then loads none of that type: rename one`,
      )
    }
    written.add(key)
  }
  const sections = [...main.sections]
  for await (const section of inSlices(wizards.sections, SLICE)) {
    if (!written.has(keyOf(section))) sections.push(section) // what pjsip.conf says Asterisk finds first
  }
  return {
    sections,
    problems,
    warnings: [...main.warnings, ...twice, ...beside.warnings, ...wizards.warnings],
    mark: `${main.mark}\n${beside.mark}`,
    readMark: async () => (await Promise.all([main.readMark(), beside.readMark()])).join('\n'),
  }
}
