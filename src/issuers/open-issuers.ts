// The trusted issuers of a config, each with its keys. A reload keeps the keys of those that stay: it must not refuse
// their users because an issuer is away at that moment.

import type { IssuerKeys, TrustedIssuer } from '../auth/issuer.ts'
import type { Clock } from '../clock.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { type Bounds, createKeySource, type Loaded, type Outcome } from './key-source.ts'
import { fetchJwks, readJwksFile } from './load-jwks.ts'

const MINUTE = 60
// At most an hour: for that long a key may still count after its issuer has withdrawn it.
const OVER_HTTP: Bounds = {
  min: MINUTE,
  max: 60 * MINUTE,
  unstated: 5 * MINUTE,
  retry: 10,
  lastGood: 24 * 60 * MINUTE,
}
const IN_A_FILE: Bounds = {
  min: 2,
  max: 2,
  unstated: 2,
  retry: 2,
  lastGood: Number.POSITIVE_INFINITY,
}

export interface Issuers {
  readonly all: readonly TrustedIssuer[]
  /** Keyed by what they were opened with. */
  readonly sources: ReadonlyMap<string, IssuerKeys>
}

export interface IssuerEvents {
  clock: Clock
  observe(issuer: string, outcome: Outcome): void
  /** Called once for each kind of trouble. */
  onProblem(problem: string): void
}

/** Throws a ConfigError if a file cannot be used; an address may be away, and is asked again. */
export const openIssuers = async (
  configured: Config['issuers'],
  { clock, observe, onProblem }: IssuerEvents,
  before?: Issuers,
): Promise<Issuers> => {
  const all: TrustedIssuer[] = []
  const sources = new Map<string, IssuerKeys>()
  const problems: string[] = []

  const open = async (
    name: string,
    { file, url, terms }: { file: string; url: string; terms: TrustedIssuer['terms'] },
  ): Promise<IssuerKeys> => {
    let trouble = ''
    const isFile = file !== ''
    const keys = createKeySource({
      load: (): Promise<Loaded> => (isFile ? readJwksFile(file) : fetchJwks(url)),
      algorithms: terms.algorithms,
      clock,
      bounds: isFile ? IN_A_FILE : OVER_HTTP,
      observe(outcome) {
        observe(name, outcome)
        const problem =
          'problem' in outcome ? `issuers.${name}: ${isFile ? file : url}: ${outcome.problem}` : ''
        if (problem !== '' && problem !== trouble) onProblem(problem)
        trouble = problem
      },
    })
    const asked = keys.renew()
    if (isFile) await asked
    if (isFile && !keys.current()) problems.push(trouble)
    return keys
  }

  for (const [name, issuer] of configured) {
    const id = JSON.stringify([name, issuer.file, issuer.url, issuer.terms.algorithms])
    const keys = before?.sources.get(id) ?? (await open(name, issuer))
    sources.set(id, keys)
    all.push({ terms: issuer.terms, keys })
  }
  if (problems.length > 0) throw new ConfigError(problems)
  return { all, sources }
}
