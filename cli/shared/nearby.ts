import { type Advert, browse } from '../../lib/lan/index.js'
import { MeshError, type MeshProfile, PROTOCOL_VERSION } from '../../lib/protocol/index.js'
import { ask, canAsk, confirm } from './ask.js'
import { bold, dim, interruptible, print, table, withSpinner } from './output.js'

/** The meshes that tell of themselves in this LAN, and the one that a person means. */

/** Meshes answer within 20 ms, but one a second at most. */
const LISTEN_MS = 2000

export interface NearbyOptions {
  /** Name of its machine, or its address. */
  mesh?: string
  /** Ask nobody. */
  yes?: boolean
  /** This machine's own address to look from. */
  netHost?: string
  json?: boolean
}

/**
 * Looks for meshes, and has one chosen: by `--mesh`, else by the person, else the only one.
 * @throws MeshError MESH_NOT_FOUND, VERSION_MISMATCH, CONFLICT where there are several, BAD_REQUEST where nobody can be asked;
 * Interrupted
 */
export async function chooseNearby(options: NearbyOptions): Promise<Advert> {
  const { mesh, netHost, yes, json } = options
  if (!yes && !canAsk()) {
    throw MeshError.BAD_REQUEST(
      'Nobody can be asked here which mesh to join: give an invite, or --yes, with --mesh <name or address>',
    )
  }
  const wanted = (advert: Advert) => mesh === undefined || advert.mesh === mesh || advert.name === mesh
  const found = await interruptible((signal) =>
    withSpinner(
      'looking for meshes nearby',
      json === true,
      browse({ forMs: LISTEN_MS, address: netHost, wanted, signal }),
    ),
  )
  const chosen = await choose(found, options)
  if (chosen.protocol === PROTOCOL_VERSION) return chosen
  throw MeshError.VERSION_MISMATCH(
    `The mesh of ${chosen.name} runs infermesh ${chosen.version}, which speaks protocol ${chosen.protocol}, this machine ${PROTOCOL_VERSION}. Run the same version on both`,
  )
}

async function choose(found: Advert[], { mesh, yes }: NearbyOptions): Promise<Advert> {
  const [only] = found
  if (only === undefined) {
    throw MeshError.MESH_NOT_FOUND(
      `No mesh ${mesh === undefined ? 'was' : `named ${mesh.slice(0, 64)} was`} found nearby. One tells of itself after \`infermesh network lan\` where it was made, while it runs. Elsewhere \`infermesh invite\` makes an invite`,
    )
  }
  if (found.length === 1) {
    if (
      yes ||
      (await confirm(`Ask to join the mesh of ${bold(only.name)} (${hostOf(only)}, infermesh ${only.version})?`))
    )
      return only
    throw MeshError.CANCELLED('Nothing was asked')
  }
  if (yes) {
    const names = found.map((one) => `${one.name} (${one.mesh})`).join(', ')
    throw MeshError.CONFLICT(
      mesh === undefined
        ? `There are ${found.length} meshes nearby: say which with --mesh <name or address>. There is ${names}`
        : `${found.length} say that they are ${mesh.slice(0, 64)}, and not all can be: join with an invite, or by --mesh <address>. There is ${names}`,
    )
  }
  const rows = found.map((one, i) => [String(i + 1), one.name, hostOf(one), one.version, one.mesh])
  for (const line of table(['', 'MACHINE', 'ADDRESS', 'VERSION', 'MESH'], rows)) print(line)
  const answer = await ask(`Which one? [1-${found.length}] `)
  const picked = /^\d{1,3}$/.test(answer) ? found[Number(answer) - 1] : undefined
  if (picked === undefined) throw MeshError.CANCELLED('Nothing was asked')
  return picked
}

export function profileOf({ mesh, authority, bootstrap }: Advert): MeshProfile {
  return { address: mesh, authority, network: { kind: 'lan', bootstrap: [bootstrap] } }
}

/** Says the code, and what the admin does with it. For programs on standard error: standard output has the outcome. */
export function tellCode(code: string, { name }: Advert, json: boolean): void {
  if (json) {
    process.stderr.write(`${JSON.stringify({ code })}\n`)
    return
  }
  // A spinner may be there already.
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K')
  print(`Code of this request: ${bold(code)}`)
  print(
    dim(
      `Where the mesh was made (${name}): \`infermesh members accept ${code}\`, or type /accept ${code} in its chat.`,
    ),
  )
}

/**
 * Has the person say that it was the mesh itself that accepted: an impostor accepts everybody.
 * @throws MeshError UNTRUSTED_GATEWAY, Interrupted
 */
export async function mustBeOurs(code: string, { name }: Advert): Promise<void> {
  if (await confirm(`Accepted. Did ${name} itself show ${bold(code)}, and was it accepted there?`)) return
  throw MeshError.UNTRUSTED_GATEWAY(
    'Then somebody else answered in its place: nothing was kept. Join with an invite (`infermesh invite` where the mesh was made)',
  )
}

function hostOf({ bootstrap }: Advert): string {
  return bootstrap.split(':')[0] ?? bootstrap
}
