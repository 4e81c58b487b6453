import { setImmediate } from 'node:timers/promises'
import type DHT from 'hyperdht'
import type { KeyPair, NoiseStream } from 'hyperdht'
import Hyperswarm, { type Discovery } from 'hyperswarm'
import { encodeKey } from '../../protocol/index.js'

const BACKOFFS_MS = [100, 200, 400, 500]

/**
 * Of the calls of one peer the newest counts. A worker that was paused finds in its socket all the calls of that time, and
 * takes the first for a connection, though the caller has long given it up: Hyperswarm's tie-break would keep that, where
 * the keys are in one of their two orders, and refuse the call that lives, until the transport's deadline after 13 s.
 */
class Swarm extends Hyperswarm {
  override _handleServerConnection(conn: NoiseStream): void {
    const known = this._allConnections.get(conn.remotePublicKey)
    if (known !== undefined && !known.isInitiator && known.rawBytesRead === 0) {
      this._allConnections.delete(known)
      known.destroy()
    }
    super._handleServerConnection(conn)
    // Hyperswarm dials again after a dial of its own that ended, and forgets whom it was to dial where the peer had called.
    const { remotePublicKey } = conn
    conn.on('close', () => {
      if (this.peers.get(remotePublicKey.toString('hex'))?.explicit) this.joinPeer(remotePublicKey)
    })
  }
}

/**
 * A swarm that refuses nobody: what a peer may do is decided on its link.
 * @param onCall told of each peer that calls, before there is a connection
 */
export function openSwarm(dht: DHT, keyPair: KeyPair, onCall: (publicKey: string) => void): Hyperswarm {
  return new Swarm({
    dht,
    keyPair,
    maxPeers: 65_536,
    maxParallel: 64,
    backoffs: BACKOFFS_MS,
    jitter: 50,
    firewall: (publicKey, payload) => {
      if (payload !== null) onCall(encodeKey(publicKey))
      return false
    },
  })
}

/**
 * Announces this worker's key anew, and the address of the mesh where it does so. HyperDHT looks after its announcements
 * every three seconds, and after those of an address every ten minutes, and not whether the nodes that had them have
 * forgotten them: until then nobody would find a worker that began before there was a node to keep them, or whose keepers
 * have just been restarted. A member that has just linked is a sign of both, and so is a node that answers again.
 */
export async function announceAgain(swarm: Hyperswarm, discovery: Discovery | undefined): Promise<void> {
  await Promise.all([announceKey(swarm), discovery && announceAddress(discovery)])
}

async function announceKey({ server }: Hyperswarm): Promise<void> {
  const announcer = server._announcer
  if (announcer === null) return
  if (announcer._updating !== null) {
    // It may have asked nodes that were away, and forgets at its end what it is told until then.
    await announcer._updating
    await setImmediate()
  }
  announcer.refresh()
  announcer._sleeper.resume()
}

async function announceAddress(discovery: Discovery): Promise<void> {
  // One that is under way may have asked nodes that were away, and is all that a call for another gets meanwhile.
  await discovery.flushed()
  await discovery.refresh()
}
