import { execFileSync } from 'node:child_process'
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

/**
 * What tells a process from every other that ever had its number: when it was started, as the system says it.
 * @returns undefined where there is no such process, or the system does not tell
 */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The 22nd field, in ticks since this start of the machine; the name, the second, may hold anything.
    const ticks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${ticks}`
  } catch {
    return startByPs(pid)
  }
}

function startByPs(pid: number): string | undefined {
  if (process.platform !== 'darwin') return undefined
  try {
    const said = execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return said.trim() || undefined
  } catch {
    return undefined
  }
}
