import { MAX_PIECE_BYTES, parseJson } from '../../../lib/protocol/index.js'
import type { Net } from '../../../lib/worker-base/index.js'
import type { OtherGateways } from './everywhere.js'
import type { LocalStored } from './local.js'

/** Serves what other gateways ask of what this one keeps. Whose it is, is held against what is kept here, too. */
export function serveStored({ dispatcher }: Pick<Net, 'dispatcher'>, local: LocalStored): void {
  dispatcher.respond('stored.find', async ({ id, view, ...owner }) => {
    const entry = await local.find(owner, id)
    if (entry === undefined) return {}
    const { createdAt } = entry
    if (view === undefined) return { createdAt }
    // Before the file is read: it has the end by the time at which nothing is being made any more.
    const live = view === 'object' ? local.live.object(owner, id) : undefined
    const read = await local.read(owner, id, view, { most: MAX_PIECE_BYTES })
    if (read === undefined) return {}
    return {
      createdAt,
      found: read.head,
      data: read.bytes.toString('base64'),
      ...(live !== undefined && { live: live.toString('base64') }),
    }
  })
  dispatcher.respond('stored.read', async ({ id, view, offset, ...owner }) => {
    const read = await local.read(owner, id, view, { offset, most: MAX_PIECE_BYTES })
    return { data: read?.bytes.toString('base64') ?? '' }
  })
  dispatcher.respond('stored.list', async ({ keyId, user, ...wanted }) => {
    const { items, ...end } = await local.list({ keyId, user }, wanted)
    return { items: items.map(({ id, createdAt }) => ({ id, createdAt })), ...end }
  })
  dispatcher.respond('stored.delete', async ({ id, ...owner }) => ({ deleted: await local.delete(owner, id) }))
  dispatcher.respond('stored.update', async ({ id, metadata, tags, ...owner }) => {
    parseJson(Buffer.from(metadata), 'The metadata')
    return { updated: await local.update(owner, id, metadata, tags) }
  })
  dispatcher.respond('stored.cancel', async ({ id, ...owner }) => {
    const live = local.live.get(owner, id)
    await live?.cancel()
    return { cancelled: live !== undefined }
  })
}

/** The other gateways of the directory, as this one can ask them now. */
export function otherGateways(net: Net): OtherGateways {
  const linked = net.linksTo('gateway')
  const reached = new Set(linked.map(({ publicKey }) => publicKey))
  const missing = [...net.directory.members.values()].filter(
    ({ role, publicKey }) => role === 'gateway' && publicKey !== net.publicKey && !reached.has(publicKey),
  )
  return {
    linked: linked.map((link) => ({
      name: link.hello?.name ?? '',
      call: (name, body) => link.call(name, body),
    })),
    missing: missing.map(({ name }) => name),
  }
}
