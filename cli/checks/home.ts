import { existsSync } from 'node:fs'
import {
  facilitiesIn,
  findLogin,
  findProfile,
  homeFiles,
  movedStores,
  openSecrets,
  readAdminKey,
  readHomeInvite,
  readRoles,
  readSettings,
  readStatuses,
  readSupervisor,
  settingsPath,
} from '../../lib/home/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import type { Finding } from './finding.js'

/** The files of the home: who may read them, and what they hold. */

/** Files with secrets that others than their owner may read. */
export function secretFiles(home: string): Finding[] {
  const check = 'permissions'
  if (!existsSync(home)) {
    return [{ check, state: 'ok', message: `${home} is not there yet`, advice: `${command('up', home)} makes a mesh` }]
  }
  const open = openSecrets(home)
  if (open.length === 0) return [{ check, state: 'ok', message: 'secrets are readable by their owner only' }]
  return open.map((path) => ({
    check,
    state: 'fail',
    message: `${path} can be read by others`,
    advice: `chmod 600 ${path}; if others use this machine, replace what it holds`,
  }))
}

/** Files of the home that hold something else than they should. */
export function unreadableFiles(home: string): Finding[] {
  const { configDir } = homeFiles(home)
  const readers: (() => unknown)[] = [
    ...[findProfile, findLogin, readAdminKey, readHomeInvite, readRoles, readSupervisor].map(
      (read) => () => read(home),
    ),
    ...facilitiesIn(configDir).map((facility) => () => readSettings(settingsPath(configDir, facility))),
  ]
  const problems = [
    ...readers.map((read) => outcomeOf(read).problem),
    ...readStatuses(home).map((file) => ('problem' in file ? file.problem : undefined)),
  ]
  return problems
    .filter((problem) => problem !== undefined)
    .map(({ message }) => ({ check: 'files', state: 'fail', message }))
}

function outcomeOf<T>(read: () => T): { value?: T; problem?: MeshError } {
  try {
    return { value: read() }
  } catch (err) {
    return { problem: MeshError.from(err) }
  }
}

/** Stores that were copied or moved to where they are. */
export async function moved(home: string): Promise<Finding[]> {
  const workers = await movedStores(home)
  if (workers.length === 0) return []
  return [
    {
      check: 'stores',
      state: 'fail',
      message: `the stores of ${workers.join(', ')} were copied or moved here, and do not open`,
      advice: `${command('adopt', home)}, where the original runs no more`,
    },
  ]
}

/** What a reader gives; undefined where it cannot, which `unreadableFiles` tells. */
export function readable<T>(read: () => T): T | undefined {
  return outcomeOf(read).value
}
