// CHANGELOG.md as dpkg wants it: what is new in this version, or is not released yet. Nothing is added to it.

const MAINTAINER = 'The Postern authors <postern@packages.postern.example>' // as in debian/control

/** The section of the version, else the one at the top. */
const sectionOf = (markdown: string, version: string): string => {
  const sections = markdown.split(/^## /m).slice(1)
  const ofVersion = sections.find((section) => /^\S*/.exec(section)?.[0] === version)
  return ofVersion ?? sections.slice(0, 1).join('')
}

/** Breaks at spaces: dpkg's readers want short lines. */
const wrap = (text: string): string =>
  text
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/(.{1,74})(?: |$)/g, '$1\n    ')
    .trimEnd()

export const changelog = (markdown: string, version: string, date: Date): string => {
  const entries = sectionOf(markdown, version)
    .split(/^- /m)
    .slice(1)
    .map((entry) => `  * ${wrap(entry.trim())}`)
  const time = date.toUTCString().replace('GMT', '+0000') // RFC 5322
  return `postern (${version}) stable; urgency=medium\n\n${entries.join('\n')}\n\n -- ${MAINTAINER}  ${time}\n`
}
