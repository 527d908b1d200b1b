// The writer thread's entry: nothing but the wiring (what is tested is sqlite-thread.ts).
import { parentPort, workerData } from 'node:worker_threads'

import { serveEngine } from './thread.ts'

serveEngine(parentPort, workerData as { file: string })
