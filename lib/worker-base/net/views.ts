import type { Link } from '../../link/index.js'
import type { Hello, LinkView, Load, Member, WorkerView } from '../../protocol/index.js'
import type { Directory } from '../../store/index.js'

export interface ViewsOptions {
  directory: Directory
  /** Links to members that have said hello, by public key. */
  members: ReadonlyMap<string, Link>
  publicKey: string
  hello: () => Hello
  load: () => Load
  /** Why there is no link to a member; undefined where nothing is known. */
  reasonFor: (publicKey: string) => string | undefined
}

/** Every member of the directory as this worker sees it, itself included. */
export function workerViews(options: ViewsOptions): WorkerView[] {
  return [...options.directory.members.values()].map((member) => viewOf(member, options))
}

/** Those that this worker is linked with, or dials in vain. The authority is always among them, but for itself. */
export function linkViews(options: ViewsOptions, authority: string): LinkView[] {
  const others = workerViews(options).filter(({ publicKey }) => publicKey !== options.publicKey)
  const isKnown = authority === options.publicKey || others.some(({ publicKey }) => publicKey === authority)
  const shown = others.filter(
    ({ publicKey, state, reason }) => state !== 'down' || reason !== undefined || publicKey === authority,
  )
  const views = shown.map(({ role, name, state, reason }) => linkView({ role, name, state }, reason))
  return isKnown ? views : [linkView({ role: 'auth', name: '', state: 'down' }, options.reasonFor(authority)), ...views]
}

function linkView(view: LinkView, reason: string | undefined): LinkView {
  return { ...view, ...(reason !== undefined && { reason }) }
}

function viewOf({ role, name, publicKey }: Member, options: ViewsOptions): WorkerView {
  const view: WorkerView = { role, name, publicKey, state: 'down' }
  if (publicKey === options.publicKey) {
    const { version, since, addresses } = options.hello()
    const load = options.load()
    return { ...view, state: load.state, version, since, addresses, load }
  }
  const link = options.members.get(publicKey)
  if (link?.hello === undefined) {
    const reason = options.reasonFor(publicKey)
    return reason === undefined ? view : { ...view, reason }
  }
  const { version, since, addresses } = link.hello
  const { load } = link
  return { ...view, state: link.suspect ? 'suspect' : (load?.state ?? 'starting'), version, since, addresses, load }
}
