import DHT from 'hyperdht'
import { findProfile } from '../../lib/home/index.js'
import {
  decodeKey,
  isLoopback,
  LOOPBACK,
  MeshError,
  type MeshProfile,
  nodeAddress,
  type WorkerStatus,
} from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'
import { findElsewhere } from '../shared/mesh.js'
import { runningWorkers } from '../supervisor/state.js'
import type { Contents } from './archive.js'
import { workersOf } from './workers.js'

/** Whether the workers that a home was copied from run somewhere still: two with one key would each write on. */

/** How long a worker may take to answer a dial, and the DHT to answer at all. */
const DIAL_MS = { local: 2000, lan: 3000, private: 12_000, public: 12_000 } as const

const RISK = 'Two that run with the same keys each write on, and the mesh loses what one of them wrote'

interface Copied {
  workers: Contents['workers']
  /** Homes of this machine that it may have been copied from. */
  homes: readonly string[]
  profile: MeshProfile | undefined
  /** The command with which to go on all the same. */
  anyway: string
}

/**
 * @throws MeshError CONFLICT naming the worker that answers, DHT_UNREACHABLE where nobody can say whether one would
 */
export async function mustNotRun({ workers, homes, profile, anyway }: Copied): Promise<void> {
  const keys = new Set(workers.map(({ publicKey }) => publicKey))
  for (const home of new Set(homes)) {
    const found = runningWorkers(home).find(({ publicKey }) => keys.has(publicKey))
    if (found !== undefined)
      throw answers(found, `as the process with pid ${found.pid} of this machine`, command('down', home))
  }
  if (profile === undefined || workers.length === 0) return
  const { answering, reached } = await dialAll(await asToldNow(profile), workers)
  if (answering !== undefined)
    throw answers(answering, 'and answers over the network', '`infermesh down` on its machine')
  // Where the authority serves the bootstrap node itself, that node is gone with it.
  if (reached || profile.network.kind === 'local' || profile.network.kind === 'lan') return
  throw MeshError.DHT_UNREACHABLE(
    `No DHT node answers, so nobody can say whether the original runs still. Try again with a network; or, where it is sure to be gone, ${anyway}. ${RISK}`,
  )
}

function answers({ role, name }: Pick<WorkerStatus, 'role' | 'name'>, how: string, stop: string): MeshError {
  return MeshError.CONFLICT(
    `The original runs: its ${role} ${name} is there ${how}. Stop it first (${stop}), and never start it again. ${RISK}`,
  )
}

/**
 * The profile with the nodes that are told of in the LAN by now: the original may have come to another address since, and
 * another copy never was at the one that is named here. Who lies there has no key to answer a dial with.
 */
async function asToldNow(profile: MeshProfile): Promise<MeshProfile> {
  const { address, network } = profile
  if (network.kind !== 'lan') return profile
  const told = await findElsewhere(address)
  return { ...profile, network: { ...network, bootstrap: [...new Set([...network.bootstrap, ...told])] } }
}

/**
 * Looks once more before a restored or adopted home is started for the first time: since then the original may have been
 * started, or another copy. Where nobody answers nothing is said.
 * @throws MeshError CONFLICT naming the worker that answers
 */
export async function mustBeTheOnlyOne(home: string): Promise<void> {
  // What runs here already is not for this to say.
  if (runningWorkers(home).length > 0) return
  try {
    await mustNotRun({ workers: workersOf(home), homes: [], profile: findProfile(home), anyway: command('up', home) })
  } catch (err) {
    if (!(err instanceof MeshError) || err.code !== 'DHT_UNREACHABLE') throw err
  }
}

async function dialAll({ network }: MeshProfile, workers: Contents['workers']) {
  const timeoutMs = DIAL_MS[network.kind]
  const dht = new DHT({
    ...(network.kind === 'public' ? {} : { bootstrap: network.bootstrap }),
    ...(isLoopback(network) ? { host: LOOPBACK } : {}),
  })
  try {
    if (!(await isReached(dht, network.bootstrap, timeoutMs))) return { answering: undefined, reached: false }
    const dials = await Promise.all(
      workers.map(async (worker) => ((await opens(dht, worker.publicKey, timeoutMs)) ? worker : undefined)),
    )
    return { answering: dials.find((worker) => worker !== undefined), reached: true }
  } finally {
    await dht.destroy({ force: true })
  }
}

/** Whether any of the bootstrap nodes answers; of the public DHT, any node. */
async function isReached(dht: DHT, bootstrap: readonly string[], timeoutMs: number): Promise<boolean> {
  if (bootstrap.length === 0) {
    await within(dht.fullyBootstrapped(), timeoutMs)
    return dht.toArray().length > 0
  }
  const pings = bootstrap.map(async (node) => {
    await dht.ping(nodeAddress(node))
    return true
  })
  return (await within(Promise.any(pings), timeoutMs)) ?? false
}

/** Whether somebody with this key takes a connection. Every worker does, and tells a stranger then that it is none of its. */
async function opens(dht: DHT, publicKey: string, timeoutMs: number): Promise<boolean> {
  const connection = dht.connect(decodeKey(publicKey))
  const opened = new Promise<boolean>((resolve) => {
    connection.once('open', () => resolve(true))
    connection.once('error', () => resolve(false))
    connection.once('close', () => resolve(false))
  })
  const found = await within(opened, timeoutMs)
  connection.on('error', () => {})
  connection.destroy()
  return found ?? false
}

async function within<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms)
  })
  return Promise.race([work.catch(() => undefined), late]).finally(() => clearTimeout(timer))
}
