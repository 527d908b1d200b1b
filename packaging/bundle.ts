// The commands and their threads as JavaScript files that need neither a build step nor node_modules. No file
// of a bundle may ever look for a source file: what it starts lies beside it.

import { build, type Metafile, type Plugin } from 'esbuild'
import { globSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'

const ROOT = join(import.meta.dirname, '..')
const COMMANDS = { postern: 'src/main.ts', 'get-auth-token': 'src/get-auth-token.ts' }
/** A thread's entry, as the file that starts it names it. */
const THREAD = /new URL\('\.\/([a-z0-9-]+-worker)\.ts', import\.meta\.url\)/g

export interface Bundle {
  /** Names of packages whose code is in the bundle, and where they are. */
  packages: ReadonlyMap<string, string>
}

/** The version of the package, whatever the source tree says: all else of package.json stays at home. */
const stamp = (version: string): Plugin => ({
  name: 'stamp',
  setup({ onLoad }) {
    onLoad({ filter: /\/package\.json$/ }, ({ path }) =>
      path === join(ROOT, 'package.json')
        ? { contents: JSON.stringify({ version }), loader: 'json' }
        : undefined,
    )
  },
})

const threadsBesideIt: Plugin = {
  name: 'threads-beside-it',
  setup({ onLoad }) {
    onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replaceAll(
        THREAD,
        "new URL('./$1.mjs', import.meta.url)",
      ),
      loader: 'ts',
    }))
  },
}

/**
 * A CommonJS package that is only loaded when it is used. Node finds the names that it exports; esbuild would
 * leave nothing but its `default`, so they are written down.
 */
const lateCommonJs: Plugin = {
  name: 'late-common-js',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^@redis\/client$/ }, ({ path, kind }) =>
      kind === 'dynamic-import' ? { path, namespace: 'late' } : undefined,
    )
    onLoad({ filter: /./, namespace: 'late' }, ({ path }) => {
      const names = Object.keys(createRequire(import.meta.url)(path) as object)
      return { contents: `export { ${names.join(', ')} } from '${path}'`, resolveDir: ROOT }
    })
  },
}

/** Writes `postern.mjs`, `get-auth-token.mjs`, one file for each thread, and what is only loaded when it is used. */
export const bundle = async (folder: string, version: string): Promise<Bundle> => {
  const threads = Object.fromEntries(
    globSync('src/**/*-worker.ts', { cwd: ROOT }).map((path) => [basename(path, '.ts'), path]),
  )
  const metafiles: Metafile[] = []
  // One by one: built together they would share files, and an upgrade could give a thread that starts late
  // half of the next version.
  for (const [name, entry] of Object.entries({ ...COMMANDS, ...threads })) {
    const { metafile } = await build({
      absWorkingDir: ROOT,
      entryPoints: { [name]: entry },
      outdir: folder,
      outExtension: { '.js': '.mjs' },
      chunkNames: `${name}-[hash]`,
      bundle: true,
      splitting: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      legalComments: 'none', // the licences are in the copyright file, whole
      logLevel: 'warning',
      metafile: true,
      plugins: [stamp(version), threadsBesideIt, lateCommonJs],
      // pino, prom-client and @redis/client are CommonJS and ask for built-in modules by require().
      banner: {
        js: "import { createRequire as createRequireOfBundle } from 'node:module'\nconst require = createRequireOfBundle(import.meta.url)",
      },
    })
    metafiles.push(metafile)
  }
  return { packages: findPackages(metafiles) }
}

function findPackages(metafiles: readonly Metafile[]): ReadonlyMap<string, string> {
  const packages = new Map<string, string>()
  for (const { outputs } of metafiles) {
    for (const { inputs } of Object.values(outputs)) {
      for (const path of Object.keys(inputs)) {
        const [folder, name] = /^.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path) ?? []
        if (folder !== undefined && name !== undefined) packages.set(name, join(ROOT, folder))
      }
    }
  }
  return new Map([...packages].sort(([a], [b]) => (a < b ? -1 : 1)))
}
