import { movedStores } from '../../lib/home/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { command } from '../shared/hints.js'

/** What to say of a home whose stores were copied or moved; undefined where none was. */
export async function movedProblem(home: string): Promise<MeshError | undefined> {
  const moved = await movedStores(home)
  if (moved.length === 0) return undefined
  return MeshError.STORE_INVALID(
    `${home} was copied or moved here: the stores of ${moved.join(', ')} know another place. If the original runs no more, ${command('adopt', home)} makes them this machine's; two that run would each write on, and the mesh would lose what one of them wrote`,
    { moved },
  )
}

/** @throws MeshError STORE_INVALID where the home's stores were copied or moved */
export async function mustBeInPlace(home: string): Promise<void> {
  const problem = await movedProblem(home)
  if (problem !== undefined) throw problem
}
