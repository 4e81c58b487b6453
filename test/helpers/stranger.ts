import RPC, { type Client } from '@hyperswarm/rpc'
import type { Test } from 'brittle'
import DHT, { type KeyPair, type NoiseStream } from 'hyperdht'
import { readProfile } from '../../lib/home/index.js'
import { Generation, type KeyedCallOptions } from '../../lib/link/index.js'
import { callMethod } from '../../lib/link/rpc.js'
import {
  decodeKey,
  type GenerateInput,
  type InputOf,
  type MethodName,
  type ResponseOf,
} from '../../lib/protocol/index.js'
import type { BaseWorker } from '../../lib/worker-base/index.js'
import { onTeardown } from './teardown.js'
import { sleep } from './wait.js'

/** Who is no member of the mesh, and knows only a worker's public key. */

/** How often a peer is dialled that may have started just now, every 50 ms. */
const ATTEMPTS = 100

/** A client that uses nothing but `@hyperswarm/rpc`: no member of the mesh, with a key pair of its own. */
export interface Stranger {
  readonly keyPair: ReturnType<typeof DHT.keyPair>
  call<M extends MethodName>(name: M, body: InputOf<M>, options?: KeyedCallOptions): Promise<ResponseOf<M>>
  /** Opens a stream, as a client does. */
  generate(request: GenerateInput, signal?: AbortSignal): Generation
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
  onTeardown(t, close)
  const channel = await connect(rpc, peer, keyPair)
  return {
    keyPair,
    call: (name, body, options) => callMethod(channel, name, body, options),
    generate: (request, signal) => new Generation(channel.mux, request, signal),
    close,
  }
}

/** Dials until the peer, which may have started just now, has announced itself. */
async function connect(rpc: RPC, peer: string, keyPair: Stranger['keyPair']): Promise<Client['rpc']> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const client = rpc.connect(decodeKey(peer), { keyPair })
    const opened = await new Promise<boolean>((resolve) => {
      client.on('open', () => resolve(true))
      client.on('close', () => resolve(false))
    })
    if (opened) return client.rpc
    await sleep(50)
  }
  throw new Error(`${peer} does not answer`)
}

/** A bare connection to a worker, as anyone who knows its public key can make it. */
export async function dial(
  t: Test,
  authority: BaseWorker,
  publicKey: string,
  keyPair: KeyPair = DHT.keyPair(),
): Promise<NoiseStream> {
  const { bootstrap } = authority.profile.network
  const dht = new DHT({ bootstrap, host: '127.0.0.1', keyPair })
  onTeardown(t, () => dht.destroy({ force: true }))
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const conn = dht.connect(decodeKey(publicKey), { keyPair })
    const opened = await new Promise<boolean>((resolve) => {
      conn.on('open', () => resolve(true))
      conn.on('error', () => resolve(false))
    })
    if (opened) return conn
    await sleep(50)
  }
  throw new Error(`${publicKey} does not answer`)
}
