import { MeshError, type WorkerStatus } from '../../lib/protocol/index.js'
import type { Child } from './child.js'

/** Whether a machine that has joined a mesh is still one of it: its workers are ready before they can know. */

/** How long workers may take to be linked; where nobody is found by then, they go on looking. */
const LINK_MS = 5000
/** How long one that the directory does not list may take to say so: it waits 5 s itself for the directory to come. */
const LISTED_MS = 8000
/** A directory on disk may say what was true before this machine was removed: its news come within this. */
const SETTLED_MS = 1000
const CHECK_MS = 50

/** Workers that were removed from the mesh, where others of this machine are in it: those go on without them. */
export function leftOut(children: readonly Child[]): Child[] {
  const isGone = ({ state, reason }: Child) => state === 'failed' && reason?.code === 'NOT_A_MEMBER'
  return children.every(({ state }) => state === 'failed') ? [] : children.filter(isGone)
}

/**
 * Waits until each worker has been linked with the authority and listed for a while, or nobody could be reached.
 * @throws MeshError why a worker cannot be in the mesh, as NOT_A_MEMBER
 */
export async function untilAdmitted(children: readonly Child[], stopped: () => boolean): Promise<void> {
  // The authority admits itself, and those that it was made with.
  if (children.some(({ role }) => role === 'auth')) return
  const startedAt = performance.now()
  let settledSince: number | undefined
  let wasLinked = false
  while (!stopped()) {
    const left = leftOut(children)
    const failed = children.find((child) => child.state === 'failed' && !left.includes(child))
    if (failed !== undefined) throw failed.reason ?? MeshError.INTERNAL(`${failed.role} ${failed.name} failed`)
    const now = performance.now()
    const statuses = children.filter((child) => !left.includes(child)).map(({ status }) => status)
    if (!statuses.every(isIn)) settledSince = undefined
    else settledSince ??= now
    if (settledSince !== undefined && now - settledSince > SETTLED_MS) return
    // One that has just learned that it is not listed closes its links, and ends a moment later.
    wasLinked ||= statuses.some(isLinked)
    if (now - startedAt > (wasLinked ? LISTED_MS : LINK_MS)) return
    await new Promise((resolve) => setTimeout(resolve, CHECK_MS))
  }
}

function isLinked(status: WorkerStatus | undefined): boolean {
  return status?.links?.some(({ role, state }) => role === 'auth' && state !== 'down') === true
}

function isIn(status: WorkerStatus | undefined): boolean {
  return isLinked(status) && status?.listed === true
}
