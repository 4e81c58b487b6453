import { readFileSync } from 'node:fs'
import { systemCode } from '../protocol/index.js'

/** Whether a process is running. One of another user counts as well. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !isZombie(pid)
  } catch (err) {
    return systemCode(err) === 'EPERM'
  }
}

/** Whether a process has ended and only waits to be collected: in a container nobody may ever do that. */
function isZombie(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name before the state may hold anything, brackets too.
    return stat.charAt(stat.lastIndexOf(')') + 2) === 'Z'
  } catch {
    return false
  }
}
