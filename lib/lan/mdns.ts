import { createSocket, type Socket } from 'node:dgram'
import type { Mdns } from 'multicast-dns'
import { MeshError, messageOf, systemCode } from '../protocol/index.js'

/** Multicast DNS (RFC 6762) on one interface, with a bound on what packets of others may cost. */

/** No advertisement of ours is longer. A packet of this size is read in some 2 ms at the worst. */
const MAX_PACKET_BYTES = 1500
/** Packets that are read in one second, from all others together. */
const MAX_PACKETS = 50
const SECOND_MS = 1000

/**
 * @param address this machine's own, of the interface to use
 * @throws MeshError PORT_IN_USE where another program has the port for itself, REFUSED where the system refuses otherwise
 */
export async function openMdns(address: string): Promise<Mdns> {
  // Most commands and workers never come here.
  const { default: multicastDns } = await import('multicast-dns')
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  const mdns = multicastDns({ socket, bind: '0.0.0.0', interface: address })
  boundPackets(socket)
  // What is wrong with a packet, or an interface that has gone, concerns nobody.
  mdns.on('warning', () => {})
  try {
    await new Promise<void>((resolve, reject) => {
      mdns.once('ready', resolve)
      mdns.once('error', reject)
    })
  } catch (err) {
    await closeMdns(mdns)
    const failure = `Multicast DNS cannot use port 5353 (UDP): ${messageOf(err)}`
    throw systemCode(err) === 'EADDRINUSE' ? MeshError.PORT_IN_USE(failure) : MeshError.REFUSED(failure)
  }
  mdns.on('error', () => {})
  return mdns
}

export function closeMdns(mdns: Mdns): Promise<void> {
  return new Promise((resolve) => {
    try {
      mdns.destroy(resolve)
    } catch {
      // It never got as far as having a socket to close.
      resolve()
    }
  })
}

/** Lets the library read so many packets, of such a size, and no others. */
function boundPackets(socket: Socket): void {
  const readers = socket.listeners('message')
  socket.removeAllListeners('message')
  let since = performance.now()
  let read = 0
  socket.on('message', (packet, from) => {
    const now = performance.now()
    if (now - since >= SECOND_MS) {
      since = now
      read = 0
    }
    if (packet.byteLength > MAX_PACKET_BYTES || ++read > MAX_PACKETS) return
    for (const reader of readers) reader.call(socket, packet, from)
  })
}
