import type { Answer, Packet } from 'multicast-dns'
import { z } from 'zod'
import { bootstrapNodeSchema, encodedKeySchema, MeshError, nameSchema, plainText, validate } from '../protocol/index.js'

/** What a mesh tells of itself in its LAN, as DNS-SD (RFC 6763) has it. Anybody can tell the same: it proves nothing. */

/** The service that browsers ask for. */
export const SERVICE = '_infermesh._udp.local'
const TTL_S = 120
/** Of the mesh's address, in the name of its instance. */
const SHOWN_CHARS = 16

const advertSchema = z.object({
  /** The mesh's address. */
  mesh: encodedKeySchema,
  /** The authority's public key. */
  authority: encodedKeySchema,
  /** The DHT node that the authority serves. */
  bootstrap: bootstrapNodeSchema.max(21),
  /** The machine's name, for people. */
  name: nameSchema,
  /** The package's version, for people. */
  version: plainText(32),
  protocol: z.coerce.number().int().min(0).max(9999),
})
export type Advert = z.infer<typeof advertSchema>

/** The records that tell it. @param ttl 0: it is over */
export function recordsOf(advert: Advert, ttl = TTL_S): Packet {
  const instance = `${advert.mesh.slice(0, SHOWN_CHARS)}.${SERVICE}`
  const host = `infermesh-${advert.mesh.slice(0, SHOWN_CHARS)}.local`
  const [address = '', port = '0'] = advert.bootstrap.split(':')
  const texts = Object.entries(advert).map(([key, value]) => `${key}=${value}`)
  return {
    answers: [{ name: SERVICE, type: 'PTR', ttl, data: instance }],
    additionals: [
      { name: instance, type: 'SRV', ttl, flush: true, data: { target: host, port: Number(port) } },
      { name: instance, type: 'TXT', ttl, flush: true, data: texts },
      { name: host, type: 'A', ttl, flush: true, data: address },
    ],
  }
}

/** What the records of others tell, and nothing of what is no advertisement. */
export function advertsIn({ answers = [], additionals = [] }: Packet): Advert[] {
  return [...answers, ...additionals].flatMap((record) => advertOf(record) ?? [])
}

function advertOf({ name, type, ttl, data }: Answer): Advert | undefined {
  if (type !== 'TXT' || ttl === 0 || !name.toLowerCase().endsWith(`.${SERVICE}`) || !Array.isArray(data))
    return undefined
  const pairs = data.map((text: unknown): [string, string] => {
    const [key = '', ...value] = String(text).split('=')
    return [key, value.join('=')]
  })
  try {
    return validate(advertSchema, Object.fromEntries(pairs), 'advertisement')
  } catch (err) {
    if (err instanceof MeshError) return undefined
    throw err
  }
}
