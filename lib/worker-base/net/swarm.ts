import type DHT from 'hyperdht'
import type { KeyPair, NoiseStream } from 'hyperdht'
import Hyperswarm from 'hyperswarm'
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
 * Announces this worker's key anew. HyperDHT looks after its announcements every three seconds; until then nobody would
 * find a worker that began before there was a node to keep them, or whose only keeper has just been restarted. A member
 * that has just linked is a sign of both.
 */
export function announceAgain({ server }: Hyperswarm): void {
  if (server._announcer === null) return
  server._announcer.refresh()
  server._announcer._sleeper.resume()
}
