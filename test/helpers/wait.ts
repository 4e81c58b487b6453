const LEAST_MS = 4
const MOST_MS = 250

/**
 * Resolves with what `probe` gives once it is neither undefined nor false, looking every few milliseconds at first,
 * and more seldom the longer it takes: an admin may ask the authority ten times a second.
 * @throws Error naming what was waited for, when it is not so in time
 */
export async function until<T>(
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  what: string,
  withinMs = 10_000,
): Promise<T> {
  const startedAt = performance.now()
  while (true) {
    const found = await probe()
    if (found !== undefined && found !== false) return found
    const waitedMs = performance.now() - startedAt
    if (waitedMs > withinMs) throw new Error(`Not within ${withinMs} ms: ${what}`)
    await sleep(Math.min(MOST_MS, LEAST_MS + waitedMs / 20))
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** The code of the MeshError that a promise fails with; undefined where it does not fail. */
export async function codeOf(promise: Promise<unknown>): Promise<string | undefined> {
  try {
    await promise
    return undefined
  } catch (err) {
    return (err as { code?: string }).code ?? String(err)
  }
}
