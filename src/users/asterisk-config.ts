// The SIP accounts of an Asterisk as its files say them: pjsip.conf, and pjsip_wizard.conf beside it where there is one.
import { dirname, join } from 'node:path'
import { loadAsteriskFile } from './asterisk-file.ts'
import { readType } from './asterisk-section.ts'
import type { Section } from './asterisk-section.ts'
import { readWizards } from './asterisk-wizard.ts'

const keyOf = (section: Section): string => `${readType(section)}\n${section.name}`

/** It does not throw: what cannot be read is a problem, and what Asterisk passes over a warning. */
export const loadAsteriskConfig = async (root: string) => {
  const main = await loadAsteriskFile(root)
  const beside = await loadAsteriskFile(join(dirname(root), 'pjsip_wizard.conf'))
  const wizards = readWizards(beside.sections)
  const problems = [...main.problems, ...beside.problems]
  if (!main.isThere && main.problems.length === 0) {
    problems.push(
      `${root}: cannot be read (ENOENT): correct the name, or add the user of the service to the group of Asterisk`,
    )
  }

  const twice: string[] = []
  const written = new Set<string>()
  for (const section of main.sections) {
    const type = readType(section)
    if (section.template || type === undefined) continue
    const key = keyOf(section)
    if (written.has(key) && ['auth', 'endpoint', 'aor'].includes(type)) {
      const problem = `${section.place}: [${section.name}] of type ${type} stands there twice, and Asterisk then loads none of that type: rename one`
      if (type === 'auth') problems.push(problem)
      else twice.push(problem)
    }
    written.add(key)
  }
  return {
    sections: [
      ...main.sections,
      // Asterisk finds what pjsip.conf says first
      ...wizards.sections.filter((section) => !written.has(keyOf(section))),
    ],
    problems,
    warnings: [...main.warnings, ...twice, ...beside.warnings, ...wizards.warnings],
    mark: `${main.mark}\n${beside.mark}`,
    readMark: async () => (await Promise.all([main.readMark(), beside.readMark()])).join('\n'),
  }
}
