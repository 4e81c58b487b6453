import { existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { homeFiles } from './paths.js'
import { writeRestored } from './restored.js'

/** Stores that lie elsewhere than where they were made: copied, unpacked, or on another disk. They do not open. */

/** The file by which a store knows that it is no copy. */
const DEVICE_FILE = 'CORESTORE'

/** The folders of a home's workers whose stores were copied or moved, such as `auth-auth`. Stores in use are none. */
export async function movedStores(home: string): Promise<string[]> {
  const { workersDir } = homeFiles(home)
  const moved: string[] = []
  for (const worker of existsSync(workersDir) ? readdirSync(workersDir) : []) {
    const path = join(workersDir, worker, 'store', DEVICE_FILE)
    if (existsSync(path) && !(await isInPlace(path))) moved.push(worker)
  }
  return moved
}

/** The library loads binaries of its own: where there are no stores nobody waits for them. */
async function isInPlace(path: string): Promise<boolean> {
  const { default: DeviceFile } = await import('device-file')
  return DeviceFile.validate(path, {})
}

/** Makes stores this machine's. Each worker's next start takes its own for one that others may have more of. */
export function adoptStores(home: string, workers: readonly string[], at: number): void {
  const { workersDir } = homeFiles(home)
  for (const worker of workers) {
    // First: a store that opens and is not taken for a copy could fork its cores.
    writeRestored(join(workersDir, worker), { at })
    rmSync(join(workersDir, worker, 'store', DEVICE_FILE), { force: true })
  }
}
