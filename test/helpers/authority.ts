import type { Test } from 'brittle'
import { writeProfile } from '../../lib/home/index.js'
import { encodeJson, encodeKey, type MeshProfile, type Role, type WorkerStatus } from '../../lib/protocol/index.js'
import { directoryKeys } from '../../lib/store/index.js'
import { BaseWorker, type Net, type WorkerOptions } from '../../lib/worker-base/index.js'
import { type Child, spawnNode } from './process.js'
import { ready, start, TestWorker, testOptions } from './worker.js'

/** An authority that admits whom the test says, at once, and whatever they serve. It has no accounts. */
export class TestAuthority extends BaseWorker {
  #address = ''

  constructor(options: WorkerOptions) {
    super('auth', options)
  }

  protected override async _profile(): Promise<MeshProfile> {
    const core = this.store.own('directory')
    await core.ready()
    this.#address = encodeKey(core.key)
    return { address: this.#address, authority: this.publicKey, network: { kind: 'local', bootstrap: [] } }
  }

  protected override _directoryCore() {
    return this.store.own('directory')
  }

  protected override async _start(): Promise<void> {
    await this.admit(this)
    writeProfile(this.home, this.profile)
  }

  async admit(member: { publicKey: string; role: Role; name: string; notAfter?: number }): Promise<void> {
    const { publicKey, role, name, notAfter } = member
    await this.directory.bee.put(
      directoryKeys.member(publicKey),
      encodeJson({ publicKey, role, name, notAfter, addedAt: Date.now() }),
    )
  }

  async remove(publicKey: string): Promise<void> {
    await this.directory.bee.del(directoryKeys.member(publicKey))
  }
}

/** A home with a started authority that admits whom the test says. */
export async function startAuthority(t: Test): Promise<TestAuthority> {
  return start(t, new TestAuthority(testOptions(await t.tmp(), 'auth')))
}

/** A started member of the authority's mesh, on the same home. */
export async function startMember(
  t: Test,
  authority: TestAuthority,
  role: Role,
  name: string,
  flags: WorkerOptions['flags'] = {},
  prepare?: (net: Net) => void,
): Promise<TestWorker> {
  const worker = new TestWorker(role, testOptions(authority.home, name, flags), prepare)
  await authority.admit(worker)
  return start(t, worker)
}

/** A member in a process of its own, once its status file says that it is ready. */
export async function spawnMember(
  t: Test,
  authority: TestAuthority,
  role: Role,
  name: string,
  behaviour?: string,
): Promise<Child & WorkerStatus> {
  // Made here only for its identity: the child finds the same one in the home.
  await authority.admit(new TestWorker(role, testOptions(authority.home, name)))
  const args = [role, authority.home, name, ...(behaviour === undefined ? [] : [behaviour])]
  const child = spawnNode(t, 'test/worker-child.js', args)
  return Object.assign(child, await ready(authority.home, role, name, child.process.pid))
}
