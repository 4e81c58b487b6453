/**
 * Resolves with what `probe` gives once it is neither undefined nor false, looking every few milliseconds.
 * @throws Error naming what was waited for, when it is not so in time
 */
export async function until<T>(
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  what: string,
  withinMs = 10_000,
): Promise<T> {
  const deadline = performance.now() + withinMs
  while (true) {
    const found = await probe()
    if (found !== undefined && found !== false) return found
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${what}`)
    await sleep(4)
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
