// `postern policy explain`: which grant of which role would allow something, or why none does. It asks the
// same rules as a check, with the config as it stands in the file.

import {
  ACTIONS,
  type Call,
  createPolicy,
  findGrant,
  type Grant,
  isAction,
  isResource,
  isUnknownCall,
} from '../auth/grants.ts'
import {
  findMachineGrant,
  isMachineUser,
  machineUser,
  parseMachineGrants,
} from '../auth/machine-key.ts'
import type { Calls } from '../calls/calls.ts'
import { readCdr } from '../calls/cdr-reader.ts'
import { systemClock } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import type { MachineKeyView } from '../daemon/machine-key-operations.ts'
import { cdrTerms, openCalls } from '../daemon/open-calls.ts'
import { openUsers } from '../daemon/open-users.ts'
import { asOwner } from '../files/owner.ts'
import { createPasswordPool } from '../passwords/pool.ts'
import type { Lookup, User } from '../users/source.ts'
import { type Command, verb } from './command.ts'
import { askDaemon, askRunning } from './control-client.ts'
import { type Io, OK, REFUSED, Stop } from './io.ts'

/** Asks the same sources as the daemon, opened for this one question. */
const lookUp = async (config: Config, name: string): Promise<Lookup> => {
  await using opened = new AsyncDisposableStack()
  const pool = createPasswordPool({ ...config.passwords, memory: config.passwords.memoryKib })
  opened.defer(() => pool.close())
  const open = () => openUsers(config, pool, () => {}, systemClock.every)
  const users = await asOwner(config.users.file, open)
  users.mayMiss(false) // no session hangs on the answer
  opened.defer(() => users.close())
  return await users.lookup(name)
}

/** The number that `{id}` stands for: only the daemon knows it, and assigns it when it first sees the user. */
const idOf = async (config: Config, name: string): Promise<string> => {
  const told = await askDaemon(config.listen.control, 'GET', '/users/ids')
  if (told === 'not_running' || 'problem' in told) return ''
  const { ids } = told.body as { ids: Readonly<Record<string, number>> }
  return [ids[name]].join() // no number yet: empty, which matches nothing
}

/** What decides about own calls: the call, and what each source says of it. */
const describeCall = (
  { recording, isParty }: Call,
  { name, number }: User,
  calls: Calls,
): string => {
  if (number === undefined) return `: ${name} has no number, so no call is surely theirs`
  const told = calls
    .explain(recording)
    .map(({ source, parties }) => `${source}: ${parties.join(' ') || 'nobody'}`)
  if (isParty === undefined) return `: no source knows whose call ${recording} is`
  const took = isParty ? 'took part' : 'surely took no part'
  return `: ${number} ${took} in the call of ${recording} (${told.join(', ')})`
}

/** What the machine keys of that name may do; undefined: there is none. Only the daemon has them. */
const grantsOfKey = async (
  { listen }: Config,
  user: string,
): Promise<readonly string[] | undefined> => {
  const { keys } = await askRunning(listen.control, 'machine keys', 'GET', '/machine-keys')
  const own = (keys as readonly MachineKeyView[]).filter(
    ({ name, state }) => machineUser(name) === user && state === 'active',
  )
  return own.length > 0 ? own.flatMap(({ grants }) => grants) : undefined
}

const explain = async (
  config: Config,
  asked: { user: string; action: string; resource: string },
  io: Io,
): Promise<number> => {
  const { user, action, resource } = asked
  const refused = (reason: string, why: string): number => {
    io.out(`refused (${reason}): ${why}`)
    return REFUSED
  }
  if (!isAction(action)) return refused('bad_action', `use one of ${ACTIONS.join(', ')}`)
  if (!isResource(resource)) {
    return refused(
      'bad_resource',
      'no location may name this: at most 1024 characters, none of them a control character, no empty or dot segment',
    )
  }
  if (isMachineUser(user)) {
    const texts = await grantsOfKey(config, user)
    if (!texts) return refused('unknown_machine_key', 'none of that name counts')
    const read = parseMachineGrants(texts)
    const grant = 'problem' in read ? undefined : findMachineGrant(read, action, resource)
    if (!grant) return refused('no_grant', `${user} has only ${texts.join(', ')}`)
    io.out(`allowed: ${user} has the grant ${grant.text}`)
    return OK
  }
  const found = await lookUp(config, user)
  if ('unavailable' in found) {
    throw new Stop(REFUSED, 'the user source does not answer: try again later')
  }
  if ('refused' in found) {
    return found.refused === 'disabled'
      ? refused('user_disabled', `${user} is disabled`)
      : refused('user_removed', `no source knows ${user}`)
  }
  const { role } = found.user
  const calls = openCalls(config.calls, (calls) => readCdr(cdrTerms(calls)))
  const grants = createPolicy(config.roles, calls).get(role)
  if (!grants)
    return refused('unknown_role', `the role ${role} has no [roles.${role}] in the config`)
  const id = await idOf(config, user)
  const subject = { username: user, id, role, number: found.user.number }
  const describe = (own: Grant | undefined): string => {
    const call = own?.callOf?.(resource, subject)
    return call ? describeCall(call, found.user, calls) : ''
  }
  const grant = findGrant(grants, action, resource, subject)
  if (grant) {
    const why = describe(grant)
    io.out(`allowed: ${user} has the role ${role}, which has the grant ${grant.text}${why}`)
    return OK
  }
  const own = grants.filter((one) => one.action === action).map((one) => one.text)
  const has = own.length > 0 ? `only ${own.join(', ')}` : `nothing for ${action}`
  const hint = id === '' && own.some((text) => text.includes('{id}'))
  const why = describe(
    grants.find((one) => one.action === action && one.callOf?.(resource, subject)),
  )
  return refused(
    isUnknownCall(grants, action, resource, subject) ? 'unknown_call' : 'no_grant',
    `${user} has the role ${role}, which grants ${has}${hint ? ' (the number for {id} is not known while the daemon is down)' : ''}${why}`,
  )
}

export const policy: Command = {
  name: 'policy',
  summary: 'explain what a user may do, and by which grant',
  verbs: {
    explain: verb({
      options: { user: 'NAME', action: 'ACTION', resource: 'RESOURCE', config: '[FILE]' },
      run: ({ values, file }, io) => explain(loadConfig(file), values, io),
    }),
  },
}
