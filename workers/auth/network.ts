import { isSameNetwork, type MeshProfile } from '../../lib/protocol/index.js'
import { directoryKeys } from '../../lib/store/index.js'
import { SYSTEM } from './actor.js'
import type { StoreWriter } from './store-writer.js'

/** Puts what the mesh is found on into the directory, where members read it. @throws what the store or the disk says */
export async function keepNetwork(writer: StoreWriter, network: MeshProfile['network']): Promise<void> {
  const known = writer.directory.network
  const { length } = network.bootstrap
  if (known !== undefined && isSameNetwork(known, network) && known.bootstrap.length === length) return
  await writer.change((draft) => {
    draft.directory(directoryKeys.network(), network)
    if (known !== undefined) draft.audit(SYSTEM.user, 'network.change', network.kind, { ...network, from: known.kind })
  })
}
