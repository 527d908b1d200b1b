// What is known of the Nchan that runs. It was measured, by version.

import { type Finding, ok, problem, warning } from './finding.ts'

const TRIED: ReadonlySet<string> = new Set(['1.3.6', '1.3.7'])
const NCHAN_FAULTS =
  'ids of clients can kill a worker (the shipped files let none through), streams outlive a worker’s death (the daemon looks for it), and each stream that is ended leaves two channels until a reload'

export const judgeNchan = (path: string, version: string, workers: string): Finding => {
  if (version === '1.3.7' && workers !== '1') {
    const text = `Nchan 1.3.7 and worker_processes ${workers}: ending a WebSocket while messages flow kills workers, whose streams may outlive their right`
    return problem(
      'nchan',
      path,
      text,
      'write `worker_processes 1;` in nginx.conf, and reload nginx',
    )
  }
  const text = `Nchan ${version}: ${NCHAN_FAULTS}`
  return TRIED.has(version)
    ? ok('nchan', path, text)
    : warning('nchan', path, `not tried: ${text}`, 'take the one that your Debian has')
}

/**
 * The workers that Nchan's faults concern: one where every stream is cut, since none then listens to a second channel,
 * nor is ended by Nchan.
 */
export const workersThatKick = (
  workers: string,
  end: 'auto' | 'cut' | 'kick',
  cuts: readonly Finding[],
): string =>
  end !== 'kick' && cuts.length > 0 && cuts.every(({ state }) => state === 'ok') ? '1' : workers
