// The bill of materials (CycloneDX) of what the package really carries: the npm packages in the bundle, Node, and
// what Node itself is made of. Built twice from one tree it is the same.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Component {
  'bom-ref': string
  name: string
  version: string
  [more: string]: unknown
}

interface Bom {
  serialNumber?: string
  metadata: { timestamp: string; component: Component }
  components: Component[]
  dependencies: { ref: string; dependsOn: string[] }[]
  [more: string]: unknown
}

/** Parts of Node in which a hole would be one of ours; the rest of `process.versions` are numbers of interfaces. */
const PARTS = [
  'ada', 'ares', 'brotli', 'llhttp', 'nghttp2', 'openssl', 'simdjson', 'simdutf', 'sqlite', 'undici', 'uv', 'v8', 'zlib', 'zstd',
] // prettier-ignore

const asNpmSees = (root: string): Bom =>
  JSON.parse(
    execFileSync('npm', ['sbom', '--sbom-format=cyclonedx'], {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  ) as Bom

export const sbom = (
  root: string,
  /** Folders of the packages in the bundle. */
  folders: Iterable<string>,
  { version, date, nodePackage }: { version: string; date: Date; nodePackage: string },
): string => {
  // Without the serial number, which is a random one.
  const { serialNumber: _, ...bom } = asNpmSees(root)
  const carried = new Set(
    Array.from(folders, (folder) => {
      const manifest = readFileSync(join(folder, 'package.json'), 'utf8')
      const { name, version } = JSON.parse(manifest) as { name: string; version: string }
      return `${name}@${version}`
    }),
  )
  const components = bom.components.filter((component) => carried.has(component['bom-ref']))
  const versions: NodeJS.Dict<string> = process.versions
  const node: Component = {
    type: 'application',
    'bom-ref': 'node',
    name: 'node',
    version: process.versions.node,
    purl: `pkg:npm/${nodePackage}@${process.versions.node}`,
    cpe: `cpe:2.3:a:nodejs:node.js:${process.versions.node}:*:*:*:lts:*:*:*`,
    components: PARTS.map((part) => ({
      type: 'library',
      'bom-ref': `node/${part}`,
      name: part,
      version: versions[part],
      purl: `pkg:generic/${part}@${versions[part]}`,
    })),
  }
  const refs = new Set(components.map((component) => component['bom-ref']))
  const { component } = bom.metadata
  const dependencies = bom.dependencies
    .filter(({ ref }) => refs.has(ref) || ref === component['bom-ref'])
    .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter((name) => refs.has(name)) }))
  return `${JSON.stringify(
    {
      ...bom,
      metadata: {
        ...bom.metadata,
        timestamp: date.toISOString(),
        component: { ...component, type: 'application', name: 'postern', version },
      },
      components: [...components, node],
      dependencies,
    },
    undefined,
    2,
  )}\n`
}
