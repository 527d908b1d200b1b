// The entry of the thread that reads a CDR: nothing but the wiring (what is tested is cdr-thread.ts).
import { parentPort, workerData } from 'node:worker_threads'

import { type CdrTask, serveCdr } from './cdr-thread.ts'

serveCdr(parentPort, workerData as CdrTask)
