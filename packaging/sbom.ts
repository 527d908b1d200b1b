// The bill of materials (CycloneDX 1.5) of what the package really carries: the npm packages in the bundle, as
// package-lock.json knows them, Node, and what Node itself is made of. Not by `npm sbom`, which npm 9 does not have.
// Built twice from one tree it is the same.

import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

/** What package-lock.json says of a package, by its path in the tree; the tree's own has an empty path. */
interface Locked {
  name?: string
  version: string
  integrity: string
  license: string
  dependencies?: Record<string, string>
  optionalDependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
}

type Packages = Readonly<Record<string, Locked | undefined>>

/** Parts of Node in which a hole would be one of ours; the rest of `process.versions` are numbers of interfaces. */
const PARTS = [
  'ada', 'ares', 'brotli', 'llhttp', 'nghttp2', 'openssl', 'simdjson', 'simdutf', 'sqlite', 'undici', 'uv', 'v8', 'zlib', 'zstd',
] // prettier-ignore

const MODULES = 'node_modules/'

const nameOf = (path: string): string => path.slice(path.lastIndexOf(MODULES) + MODULES.length)

/** Where Node finds a package that another one names: in the nearest node_modules on the way up. */
const resolve = (packages: Packages, from: string, name: string): string | undefined => {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf(MODULES) - 1))) {
    const path = join(at, MODULES, name)
    if (packages[path] !== undefined) return path
    if (at === '') return undefined
  }
}

/** The hash of the tarball, as the registry has it. */
const hashes = (integrity: string): object[] => [
  {
    alg: 'SHA-512',
    content: Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex'),
  },
]

const licences = (license: string): object[] => [
  license.includes(' ') ? { expression: license } : { license: { id: license } },
]

export const sbom = (
  root: string,
  /** Folders of the packages in the bundle. */
  folders: Iterable<string>,
  { version, date, nodePackage }: { version: string; date: Date; nodePackage: string },
): string => {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Packages
  }
  const locked = (path: string): Locked => {
    const entry = packages[path]
    if (entry === undefined) throw new Error(`${path} is not in package-lock.json: run npm install`)
    return entry
  }
  const refOf = (path: string): string => `${nameOf(path)}@${locked(path).version}`
  const paths = Array.from(folders, (folder) => relative(root, folder))
  const wantedBy = (path: string): string[] => {
    const { dependencies, optionalDependencies, peerDependencies } = locked(path)
    const names = Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies })
    return names.flatMap((name) => {
      const found = resolve(packages, path, name)
      return found !== undefined && paths.includes(found) ? [refOf(found)] : []
    })
  }

  const versions: NodeJS.Dict<string> = process.versions
  const runtime = locked(`${MODULES}${nodePackage}`)
  const own = `postern@${version}`
  const bom = {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    // No serial number: it would have to be a random one.
    version: 1,
    metadata: {
      timestamp: date.toISOString(),
      lifecycles: [{ phase: 'build' }],
      component: {
        type: 'application',
        'bom-ref': own,
        name: 'postern',
        version,
        licenses: licences(locked('').license),
      },
    },
    components: [
      ...paths.map((path) => ({
        type: 'library',
        'bom-ref': refOf(path),
        name: nameOf(path),
        version: locked(path).version,
        purl: `pkg:npm/${refOf(path).replace(/^@/, '%40')}`,
        licenses: licences(locked(path).license),
        hashes: hashes(locked(path).integrity),
      })),
      {
        type: 'application',
        'bom-ref': 'node',
        name: 'node',
        version: runtime.version,
        purl: `pkg:npm/${nodePackage}@${runtime.version}`,
        cpe: `cpe:2.3:a:nodejs:node.js:${runtime.version}:*:*:*:lts:*:*:*`,
        hashes: hashes(runtime.integrity),
        components: PARTS.map((part) => ({
          type: 'library',
          'bom-ref': `node/${part}`,
          name: part,
          version: versions[part],
          purl: `pkg:generic/${part}@${versions[part]}`,
        })),
      },
    ],
    dependencies: [
      { ref: own, dependsOn: [...wantedBy(''), 'node'] },
      ...paths.map((path) => ({ ref: refOf(path), dependsOn: wantedBy(path) })),
    ],
  }
  return `${JSON.stringify(bom, undefined, 2)}\n`
}
