import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Test } from 'brittle'

/** Faults put into the real engine process: a module that it imports first, and that waits for certain words. */

/** A bound that ends a silent engine after half a second. */
export const QUICK_WATCH = { beatMs: 100, quietBeats: 2, silentBeats: 5, loadingBeats: 300 }

/**
 * @returns variables for an engine that runs in a circle for ever, or crashes, once it has begun a request whose text
 * holds `please hang` or `please crash`
 */
export async function faultyEnv(t: Test): Promise<Record<string, string>> {
  const path = join(await t.tmp(), 'faults.mjs')
  await writeFile(
    path,
    `import { isMainThread } from 'node:worker_threads'
    const wants = (message, what) => message.type === 'generate' && JSON.stringify(message.request).includes(what)
    if (isMainThread) process.on('message', (message) => {
      if (wants(message, 'please hang')) setImmediate(() => { for (;;); })
      if (wants(message, 'please crash')) setImmediate(() => process.abort())
    })`,
  )
  return { NODE_OPTIONS: `--import ${pathToFileURL(path)}` }
}
