import { readFileSync } from 'node:fs'
import RPC, { type Client } from '@hyperswarm/rpc'
import type { Test } from 'brittle'
import DHT from 'hyperdht'
import { homeFiles } from '../../lib/home/index.js'
import { type CallOptions, callMethod, Generation } from '../../lib/link/index.js'
import {
  decodeKey,
  type GenerateRequest,
  type InputOf,
  type MethodName,
  type ResponseOf,
  type Role,
} from '../../lib/protocol/index.js'
import { BaseWorker, readProfile, type WorkerOptions } from '../../lib/worker-base/index.js'
import { AuthWorker } from '../../workers/auth/index.js'
import { until } from './wait.js'

export { codeOf, until } from './wait.js'

/** What tests share: real workers of one home, on a private network of this machine, in the test's own process. */

/** A home that is removed after the test. */
export function testHome(t: Test): Promise<string> {
  return t.tmp()
}

/** Options for any worker in a test: nothing is logged, and nothing of the real environment is read. */
export function testOptions(home: string, name: string, flags: WorkerOptions['flags'] = {}): WorkerOptions {
  return { home, name, environment: {}, flags: { log: { level: 'silent' }, http: { port: 0 }, ...flags } }
}

/** Starts a worker, and stops it after the test. Workers stop in the reverse of the order they were started in. */
export async function start<W extends BaseWorker>(t: Test, worker: W): Promise<W> {
  // brittle runs teardowns with a higher order later.
  t.teardown(() => worker.stop(), { order: -++started })
  await worker.start()
  return worker
}
let started = 0

/** The authority of a home; makes the mesh at its first start. */
export function startAuth(t: Test, home: string, flags: WorkerOptions['flags'] = {}): Promise<AuthWorker> {
  return start(t, new AuthWorker(testOptions(home, 'auth', flags)))
}

/** A worker of any role that does no more than what every worker does. */
export class PlainWorker extends BaseWorker {
  /** Why it could not go on, where that happened. */
  failure: Error | undefined

  constructor(role: Role, options: WorkerOptions) {
    super(role, {
      ...options,
      onFatal: (err) => {
        this.failure = err
      },
    })
  }
}

/** Waits until a worker is linked to the authority and listed in the directory. */
export async function untilJoined(worker: BaseWorker): Promise<void> {
  await until(
    () => worker.directory.member(worker.publicKey) !== undefined && worker.net.members.has(worker.profile.authority),
    `${worker.role} ${worker.name} has joined`,
  )
}

/** The API key that the home's first start made for its admin. */
export function adminKey(home: string): string {
  return readFileSync(homeFiles(home).adminKey, 'utf8').trim()
}

/** A client that uses nothing but `@hyperswarm/rpc`: no member of the mesh, with a key pair of its own. */
export interface Stranger {
  readonly keyPair: ReturnType<typeof DHT.keyPair>
  call<M extends MethodName>(name: M, body: InputOf<M>, options?: CallOptions): Promise<ResponseOf<M>>
  /** Opens a stream, as a client does. */
  generate(request: GenerateRequest, signal?: AbortSignal): Generation
  close(): Promise<void>
}

/** @param peer whom it calls: a public key, as z-base-32 */
export async function startStranger(t: Test, home: string, peer: string, keyPair = DHT.keyPair()): Promise<Stranger> {
  const { network } = readProfile(home)
  const dht = new DHT({ keyPair, bootstrap: network.bootstrap, host: '127.0.0.1' })
  const rpc = new RPC({ dht, keyPair })
  const close = async (): Promise<void> => {
    await rpc.destroy({ force: true })
    await dht.destroy({ force: true })
  }
  t.teardown(close, { order: -++started })
  const channel = await connect(rpc, peer, keyPair)
  return {
    keyPair,
    call: (name, body, options) => callMethod(channel, name, body, options),
    generate: (request, signal) => new Generation(channel.mux, request, signal),
    close,
  }
}

/** Dials until the peer, which may have started just now, has announced itself. */
async function connect(rpc: RPC, peer: string, keyPair: Stranger['keyPair']): Promise<NonNullable<Client['rpc']>> {
  const deadline = Date.now() + 10_000
  while (Date.now() < deadline) {
    const client = rpc.connect(decodeKey(peer), { keyPair })
    const opened = await new Promise<boolean>((resolve) => {
      client.on('open', () => resolve(true))
      client.on('close', () => resolve(false))
    })
    if (opened && client.rpc !== null) return client.rpc
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`${peer} does not answer`)
}
