// The three doors: where nginx asks, where the operator's programs look, where the operator's commands go. A socket
// that systemd has opened is used as it is.

import { IssuerAwayError } from '../auth/issuer.ts'
import type { Config } from '../config/config.ts'
import { drain } from '../http/drain.ts'
import { listen, type ListenAddress } from '../http/listen.ts'
import {
  createControlRoutes,
  createOperatorRoutes,
  shape as operatorShape,
} from '../http/operator.ts'
import { createRouter, type Route, type Router } from '../http/routes.ts'
import { createHttpServer, type ServerParts } from '../http/server.ts'
import { shape as softphoneShape } from '../http/softphone/reply.ts'
import { StoreError } from '../store/store.ts'
import type { Metrics } from '../metrics.ts'
import type { InForce } from './in-force.ts'
import type { Observer } from './observe.ts'
import type { Operations } from './operations.ts'
import { StartError } from './open-state.ts'

const SOCKETS: ReadonlySet<string> = new Set(['http', 'operator', 'notify']) // what systemd may open for us

const MAX_CONNECTIONS = 4096 // nginx keeps a few per worker; one too many is closed at once, and nginx answers 503
const SOCKET_MODE = 0o660 // whoever opens it can claim any client address: nginx's group, and nobody else

type Address = Config['listen']['http']

/** Throws a StartError for a socket of systemd's that would go unused: whoever set it up believes it is open. */
export const refuseUnknownSockets = (sockets: ReadonlyMap<string, number>): void => {
  for (const name of sockets.keys()) {
    if (SOCKETS.has(name)) continue
    throw new StartError(
      `systemd hands over a socket named ${name}: let FileDescriptorName= of its unit be http or operator, with one ListenStream= each`,
    )
  }
}

const statusOfFault: ServerParts['statusOfFault'] = (error) => ({
  status: error instanceof StoreError || error instanceof IssuerAwayError ? 503 : 500,
})

/** To the operator's commands: what is wrong with the store, and the cure. */
const tellFault: ServerParts['statusOfFault'] = (error) => ({
  ...statusOfFault(error),
  ...(error instanceof StoreError && { words: error.message }),
})

/** Resolves when all of them accept; `opened` closes them. What to call each, for the log. */
export const openListeners = async (
  { http, operator, control, socketGroup }: Config['listen'],
  parts: {
    sockets: ReadonlyMap<string, number>
    observer: Pick<Observer, 'requests'>
    now(): number
    inForce: Pick<InForce, 'gate'>
    operations: Operations
    metrics: Metrics
    findObstacle(): Promise<string | undefined>
  },
  opened: AsyncDisposableStack,
): Promise<Record<'http' | 'operator' | 'control', Address | string>> => {
  const { sockets, observer, now, inForce, operations, metrics, findObstacle } = parts
  const open = async (
    address: ListenAddress,
    router: Router,
    shape: ServerParts['shape'],
    statusOf = statusOfFault,
  ): Promise<void> => {
    const seen = observer.requests
    const server = createHttpServer({
      router,
      shape,
      maxConnections: MAX_CONNECTIONS,
      statusOfFault: statusOf,
      ...seen,
      now,
    })
    opened.defer(() => drain(server))
    await listen(server, address)
  }
  const at = (name: string, address: Address, mode: number, group: string): ListenAddress => {
    const fd = sockets.get(name)
    /* c8 ignore next: only systemd opens sockets for us, and test/systemd boots one */
    if (fd !== undefined) return { fd }
    return 'path' in address ? { ...address, mode, group } : address
  }
  const openOperator = (address: ListenAddress, routes: readonly Route[]): Promise<void> =>
    open(address, createRouter(routes), operatorShape, tellFault)
  await openOperator(
    { path: control, mode: 0o600, group: '' },
    createControlRoutes({ ...operations, findObstacle }),
  )
  await openOperator(
    at('operator', operator, 0o600, ''),
    createOperatorRoutes({ metrics, findObstacle }),
  )
  // The gate is asked at each request: a reload swaps it.
  const router: Router = (method, path) => inForce.gate().router(method, path)
  await open(at('http', http, SOCKET_MODE, socketGroup), router, softphoneShape)
  /* c8 ignore next: only systemd opens sockets for us, and test/systemd boots one */
  const where = (name: string, address: Address) => (sockets.has(name) ? 'systemd' : address)
  return { http: where('http', http), operator: where('operator', operator), control }
}
