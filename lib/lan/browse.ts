import type { Packet } from 'multicast-dns'
import { MeshError } from '../protocol/index.js'
import { lanAddresses } from './addresses.js'
import { type Advert, advertsIn, SERVICE } from './advert.js'
import { closeMdns, openMdns } from './mdns.js'

/** When it is asked, in milliseconds: the first packet may be lost, and each is answered once a second at most. */
const ASK_AT_MS = [0, 300, 1100]
/** Meshes that are listened to: whoever tells of more, tells stories. */
const MAX_FOUND = 32

export interface BrowseOptions {
  /** How long to listen, in milliseconds. */
  forMs: number
  /** This machine's own address to ask from; absent: each that it has in a LAN. */
  address?: string | undefined
  /** Which ones to keep. */
  wanted: (advert: Advert) => boolean
  signal: AbortSignal
}

/**
 * The meshes that are told of in the LAN, by the machine's name. Of those that contradict each other, all.
 * @throws MeshError where multicast DNS cannot be used, or there is no LAN
 */
export async function browse({ forMs, address, wanted, signal }: BrowseOptions): Promise<Advert[]> {
  const addresses = address === undefined ? lanAddresses() : [address]
  if (addresses.length === 0) {
    throw MeshError.CONFIG_INVALID('This machine has no IPv4 address but loopback, so nothing is nearby')
  }
  const opened = await Promise.all(addresses.map(openMdns))
  const found = new Map<string, Advert>()
  for (const mdns of opened) {
    mdns.on('response', (packet: Packet) => {
      for (const advert of advertsIn(packet)) {
        const key = `${advert.mesh} ${advert.authority} ${advert.bootstrap}`
        if (wanted(advert) && (found.has(key) || found.size < MAX_FOUND)) found.set(key, advert)
      }
    })
  }
  const timers = ASK_AT_MS.map((ms) =>
    setTimeout(() => {
      for (const mdns of opened) mdns.query([{ name: SERVICE, type: 'PTR' }], () => {})
    }, ms),
  )
  try {
    await new Promise<void>((resolve) => {
      timers.push(setTimeout(resolve, forMs))
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
    signal.throwIfAborted()
  } finally {
    for (const timer of timers) clearTimeout(timer)
    await Promise.all(opened.map(closeMdns))
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}
