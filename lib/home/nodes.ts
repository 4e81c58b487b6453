import { z } from 'zod'
import { encodedKeySchema, MAX_NODES, type MemberNode, memberNodeSchema } from '../protocol/index.js'
import { readRecord, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/**
 * Where members of meshes were seen last: nodes.json. With it a mesh is found while the node that its profile names is away,
 * and the authority finds its members from a new address. Nobody is trusted by it: who answers there proves its key.
 */

const MAX_MESHES = 8
/** More than the directory names: the authority remembers processors, too. */
const MAX_REMEMBERED = 4 * MAX_NODES

const nodesSchema = z
  .array(z.object({ mesh: encodedKeySchema, nodes: z.array(memberNodeSchema).max(MAX_REMEMBERED) }))
  .max(MAX_MESHES)

/** What is remembered of a mesh, the newest first; nothing where the file is not there or cannot be read. */
export function readNodes(home: string, mesh: string): MemberNode[] {
  return readAll(home).find((known) => known.mesh === mesh)?.nodes ?? []
}

/**
 * Remembers where members are now. What was known of others stays, the oldest is forgotten first.
 * @throws the system's error where it cannot be written; what was remembered is as it was then
 */
export function rememberNodes(home: string, mesh: string, nodes: readonly MemberNode[]): void {
  const all = readAll(home)
  const known = all.find((other) => other.mesh === mesh)?.nodes ?? []
  const seen = new Set(nodes.map(({ publicKey }) => publicKey))
  const merged = [...nodes, ...known.filter(({ publicKey }) => !seen.has(publicKey))].slice(0, MAX_REMEMBERED)
  if (JSON.stringify(merged) === JSON.stringify(known)) return
  const others = all.filter((other) => other.mesh !== mesh).slice(0, MAX_MESHES - 1)
  const text = `${JSON.stringify([{ mesh, nodes: merged }, ...others], null, 2)}\n`
  writeFileAtomic(homeFiles(home).nodes, text, { mode: 0o600, lasting: false })
}

/**
 * Keeps where members are as they move: to be told at each change of the directory, it writes only what is new.
 * @param onError told why it could not be written; that is tried again with the next that is new
 */
export function nodesKeeper(
  home: string,
  mesh: string,
  onError: (err: unknown) => void,
): (nodes: readonly MemberNode[]) => void {
  let last = ''
  return (nodes) => {
    const text = JSON.stringify(nodes)
    if (nodes.length === 0 || text === last) return
    try {
      rememberNodes(home, mesh, nodes)
      last = text
    } catch (err) {
      onError(err)
    }
  }
}

/** It is a help and no record: what cannot be read is as good as nothing, and is written anew. */
function readAll(home: string): z.output<typeof nodesSchema> {
  try {
    return readRecord(homeFiles(home).nodes, nodesSchema, '') ?? []
  } catch {
    return []
  }
}
