import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

const LISTEN = '0A'

/** The process that listens on a TCP port, read from /proc; undefined where the system or the rights do not tell. */
export function listenerPid(port: number): number | undefined {
  try {
    const inodes = new Set<string>()
    for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
      for (const line of readFileSync(table, 'utf8').split('\n').slice(1)) {
        const fields = line.trim().split(/\s+/)
        if (fields[3] === LISTEN && Number.parseInt(fields[1]?.split(':')[1] ?? '', 16) === port)
          inodes.add(`socket:[${fields[9]}]`)
      }
    }
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        for (const fd of readdirSync(`/proc/${pid}/fd`)) {
          if (inodes.has(readlinkSync(`/proc/${pid}/fd/${fd}`))) return Number(pid)
        }
      } catch {
        // Another user's process, or one that has just ended.
      }
    }
  } catch {
    // No /proc on this system.
  }
  return undefined
}
