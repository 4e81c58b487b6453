import type { Test } from 'brittle'
import type { Role } from '../lib/protocol/index.js'
import type { BaseWorker, Net, WorkerOptions } from '../lib/worker-base/index.js'
import * as mesh from './helpers/mesh.js'

/** The old names of helpers/mesh.ts, for tests that are not yet moved. */

export {
  type Child,
  dial,
  type Exit,
  linked,
  readStatus,
  ready,
  sleep,
  spawnMember,
  spawnNode,
  startAuthority,
  TestAuthority,
  TestWorker,
  until,
} from './helpers/mesh.js'

export function testOptions(home: string, name: string, options: Partial<WorkerOptions> = {}): WorkerOptions {
  const { flags, ...rest } = options
  return { ...mesh.testOptions(home, name, flags), ...rest }
}

export function start<W extends BaseWorker>(t: Test, worker: W, _order = 0): Promise<W> {
  return mesh.start(t, worker)
}

export function startMember(
  t: Test,
  authority: mesh.TestAuthority,
  role: Role,
  name: string,
  options: Partial<WorkerOptions> = {},
  prepare?: (net: Net) => void,
): Promise<mesh.TestWorker> {
  return mesh.startMember(t, authority, role, name, options.flags, prepare)
}
