import { freemem, totalmem } from 'node:os'

/** What has to stay free of the machine's memory, or of what its container may use, while a model is loaded. */
const RESERVE = 0.05
const MOST_RESERVE_BYTES = 1024 * 1024 * 1024

/** Bytes that may still be used here. macOS counts what it could free at once as used: nothing can be told there. */
export function availableMemory(): number {
  if (process.platform === 'darwin') return Number.POSITIVE_INFINITY
  return process.availableMemory?.() ?? freemem()
}

/** Bytes that a load has to leave free; half of what there is where that is less. */
export function memoryReserve(availableBytes: number): number {
  return Math.min(MOST_RESERVE_BYTES, RESERVE * totalmem(), availableBytes / 2)
}
