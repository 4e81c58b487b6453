import { printable } from '../protocol/index.js'

/**
 * Says something on standard error, as far as it can be said: that may be a file on a full disk, or a pipe that nobody
 * reads any more, and neither ends the process that speaks.
 */
export function complain(text: string): void {
  try {
    process.stderr.write(`${printable(text)}\n`)
  } catch {
    // A file throws at once; a pipe tells later, by an event.
  }
}

/** Makes what `complain` could not say no failure of this process. */
export function surviveStderr(): void {
  process.stderr.on('error', () => {})
}
