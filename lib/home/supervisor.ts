import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { systemCode } from '../protocol/index.js'
import { makePrivateDir, readRecord } from './files.js'
import { homeFiles } from './paths.js'
import { workerNameSchema } from './roles.js'

/** Who runs the workers of a home: supervisor.json, which is there as long as that process is. */

const supervisorStateSchema = z.object({
  pid: z.int(),
  startedAt: z.number(),
  roles: z.array(workerNameSchema),
})
export type SupervisorState = z.infer<typeof supervisorStateSchema>

const ADVICE = 'Delete it where no `infermesh up` runs in this home: it only says who does'

/**
 * What the home's last supervisor said of itself; undefined where there is none. The process may be gone.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or says something else
 */
export function readSupervisor(home: string): SupervisorState | undefined {
  return readRecord(homeFiles(home).supervisor, supervisorStateSchema, ADVICE)
}

/** Names the home's supervisor where none is named. @returns false where one is: of two at once, one is told true */
export function createSupervisor(home: string, state: SupervisorState): boolean {
  makePrivateDir(home)
  const path = homeFiles(home).supervisor
  let file: number
  try {
    file = openSync(path, 'wx')
  } catch (err) {
    if (systemCode(err) === 'EEXIST') return false
    throw err
  }
  try {
    writeFileSync(file, `${JSON.stringify(state)}\n`)
    return true
  } catch (err) {
    // Begun and not finished, for want of room: it would say nothing of this process.
    rmSync(path, { force: true })
    throw err
  } finally {
    closeSync(file)
  }
}

/** Takes back what `createSupervisor` wrote. */
export function removeSupervisor(home: string): void {
  rmSync(homeFiles(home).supervisor, { force: true })
}
