import { type Advert, recordsOf, SERVICE } from './advert.js'
import { closeMdns, openMdns } from './mdns.js'

/** Answers are told to the whole LAN: one in this time is enough for all who ask (RFC 6762, section 6). */
const PAUSE_MS = 1000
/** Whoever asks several times at once is answered once. */
const GATHER_MS = 20

/** An advertisement that is being told; `stop` says that it is over. */
export interface Advertisement {
  stop(): Promise<void>
}

/**
 * Tells of a mesh in the LAN: at once, and whoever asks.
 * @param address this machine's own, of the interface to tell it on
 * @throws MeshError where multicast DNS cannot be used
 */
export async function advertise(advert: Advert, address: string): Promise<Advertisement> {
  const mdns = await openMdns(address)
  const records = recordsOf(advert)
  let toldAt = Number.NEGATIVE_INFINITY
  let timer: NodeJS.Timeout | undefined
  const tell = () => {
    timer = undefined
    toldAt = performance.now()
    // Where the network is away, there is nobody to tell.
    mdns.respond(records, () => {})
  }
  mdns.on('query', ({ questions = [] }: { questions?: { name: string; type: string }[] }) => {
    const asks = questions.some(
      ({ name, type }) => name.toLowerCase() === SERVICE && (type === 'PTR' || type === 'ANY'),
    )
    if (asks) timer ??= setTimeout(tell, Math.max(GATHER_MS, toldAt + PAUSE_MS - performance.now()))
  })
  tell()
  return {
    stop: async () => {
      clearTimeout(timer)
      await new Promise<void>((resolve) => mdns.respond(recordsOf(advert, 0), () => resolve()))
      await closeMdns(mdns)
    },
  }
}
