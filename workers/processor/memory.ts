import { freemem, totalmem } from 'node:os'

/** What has to stay free of the machine's memory while a model is loaded. */
const RESERVE = 0.05
const MOST_RESERVE_BYTES = 1024 * 1024 * 1024

/**
 * Bytes of the machine that may still be used, file caches among them. macOS counts those as used: nothing can be told
 * there. What a container may use is not looked at for the same reason; its engines are the first that Linux ends.
 */
export function availableMemory(): number {
  return process.platform === 'darwin' ? Number.POSITIVE_INFINITY : freemem()
}

/** Bytes that a load has to leave free; half of what there is where that is less. */
export function memoryReserve(availableBytes: number): number {
  return Math.min(MOST_RESERVE_BYTES, RESERVE * totalmem(), availableBytes / 2)
}
