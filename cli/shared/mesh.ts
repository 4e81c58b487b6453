import type { Command } from 'commander'
import type { MeshClient, MeshClientOptions } from '../../lib/client/index.js'
import { interruptible, withSpinner } from './output.js'

/** The options that every command takes. */
export interface Common {
  home?: string
  mesh?: string
  key?: string
  json?: boolean
}

/** A command's own options together with the common ones. */
export function optionsOf<T extends object>(command: Command): T & Common {
  return command.optsWithGlobals<T & Common>()
}

export function clientOptions({ home, mesh, key }: Common): MeshClientOptions {
  return { home, mesh, key, findElsewhere }
}

/** How long meshes of this LAN have to tell of themselves: they answer within 20 ms, and the first question may be lost. */
const LISTEN_MS = 1000

/** Nodes that say in this LAN that they are of the mesh with an address, as `host:port`. It never fails. */
export async function findElsewhere(address: string): Promise<string[]> {
  try {
    const { browse } = await import('../../lib/lan/index.js')
    const wanted = ({ mesh }: { mesh: string }) => mesh === address
    const adverts = await browse({ forMs: LISTEN_MS, wanted, signal: new AbortController().signal })
    return adverts.map(({ bootstrap }) => bootstrap)
  } catch {
    // Without multicast the mesh is where it was, or nowhere.
    return []
  }
}

/** Begins to load the client's libraries, for `openMesh`. */
export function loadClient(): void {
  // Where it fails, `openMesh` says so.
  import('../../lib/client/index.js').catch(() => {})
}

/** A client of the mesh that the options mean. The network's libraries are loaded only now: most of a command's time is theirs. */
export async function openMesh(options: MeshClientOptions): Promise<MeshClient> {
  const { MeshClient } = await import('../../lib/client/index.js')
  return new MeshClient(options)
}

/**
 * Runs work with a client of the mesh that the options mean, and closes it. Ctrl-C ends it in good order.
 * @throws MeshError, Interrupted
 */
export function withMesh<T>(
  common: Common,
  work: (mesh: MeshClient, signal: AbortSignal) => Promise<T>,
  waitingFor = 'asking the mesh',
): Promise<T> {
  return interruptible(async (signal) => {
    const mesh = await openMesh(clientOptions(common))
    try {
      return await withSpinner(waitingFor, common.json === true, work(mesh, signal))
    } finally {
      await mesh.close()
    }
  })
}
