// The entry of a hash worker thread. It must not do more than this: hash-jobs.ts is what is tested.
import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { serveHashes } from './hash-jobs.ts'

serveHashes(parentPort, () => setPriority(0, 19))
