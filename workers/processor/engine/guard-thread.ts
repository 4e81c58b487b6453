import { parentPort, workerData } from 'node:worker_threads'
import { systemCode } from '../../../lib/errors/index.js'

/** Ends an engine without its processor, also where the engine's main thread is stuck and hears nothing. */

const LOOK_MS = 500
const processor: number = workerData

setInterval(() => {
  if (!isParent(processor)) process.kill(process.pid, 'SIGKILL')
}, LOOK_MS)

parentPort?.postMessage('on guard')

/** Where a parent dies, another process takes its place; on Windows it stays the number of a process that is gone. */
function isParent(pid: number): boolean {
  if (process.ppid !== pid) return false
  try {
    return process.kill(pid, 0)
  } catch (err) {
    return systemCode(err) !== 'ESRCH'
  }
}
