import { readFileSync } from 'node:fs'

/** The port that a file keeps from a worker's last start; 0 where it keeps none. */
export function keptPort(path: string): number {
  try {
    const port = Number(readFileSync(path, 'utf8'))
    return Number.isInteger(port) && port > 0 && port <= 65_535 ? port : 0
  } catch {
    return 0
  }
}
