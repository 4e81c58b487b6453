import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

/**
 * Preloaded into a worker's process (`--import`): on SIGUSR2 it prints how long that process' loop was held at most since
 * the last time, in milliseconds, and begins anew.
 */

// A timer due every so many milliseconds comes so late while the loop is held.
const RESOLUTION_MS = 2

if (isMainThread) {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  process.on('SIGUSR2', () => {
    process.stdout.write(`held ${Math.max(0, delay.max / 1e6 - RESOLUTION_MS)}\n`)
    delay.reset()
  })
}
