import { constants, copyFileSync, linkSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { z } from 'zod'
import { MeshError, systemCode } from '../protocol/index.js'
import { makePrivateDir, readIfThere, readRecord, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'
import { workerNameSchema } from './roles.js'

/** Who runs the workers of a home: supervisor.json, which is there as long as that process is. */

const supervisorStateSchema = z.object({
  pid: z.int(),
  startedAt: z.number(),
  roles: z.array(workerNameSchema),
  /** It starts its workers anew at SIGUSR2, which would end one of an early build. */
  restarts: z.literal(true).optional(),
})
export type SupervisorState = z.infer<typeof supervisorStateSchema>

/** File systems that know one name for a file only. */
const NO_LINKS: ReadonlySet<string> = new Set(['ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EPERM'])
const MAX_CLAIMS = 3

const ADVICE = 'Delete it where no `infermesh up` runs in this home: it only says who does'

/**
 * What the home's last supervisor said of itself; undefined where there is none. The process may be gone.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or says something else
 */
export function readSupervisor(home: string): SupervisorState | undefined {
  return readRecord(homeFiles(home).supervisor, supervisorStateSchema, ADVICE)
}

/**
 * Names this process the home's supervisor, unless another one runs. What a process left that is gone is taken away, and
 * so is a file that says nothing, as a power cut may leave one.
 * @param isRunning whether the supervisor that the file names runs still
 * @returns the other one; undefined where it is this process now
 * @throws MeshError STORE_LOCKED where others were sooner again and again, CONFIG_INVALID when the file cannot be read
 */
export function claimSupervisor(
  home: string,
  state: SupervisorState,
  isRunning: (other: SupervisorState) => boolean,
): SupervisorState | undefined {
  makePrivateDir(home)
  const path = homeFiles(home).supervisor
  const own = `${path}.${process.pid}`
  writeFileAtomic(own, `${JSON.stringify(state)}\n`, { lasting: false })
  try {
    for (let attempt = 1; attempt <= MAX_CLAIMS; attempt++) {
      if (putIfAbsent(own, path)) return undefined
      const text = readIfThere(path)
      if (text === undefined) continue
      const other = stateIn(text)
      if (other !== undefined && isRunning(other)) return other
      takeAway(path, text)
    }
  } finally {
    rmSync(own, { force: true })
  }
  throw MeshError.STORE_LOCKED(`${home} is being started by others at this moment. Try again`)
}

/** Takes back what `claimSupervisor` wrote, where it names this process. */
export function releaseSupervisor(home: string): void {
  const path = homeFiles(home).supervisor
  const text = readIfThere(path)
  if (text !== undefined && stateIn(text)?.pid === process.pid) rmSync(path, { force: true })
}

function stateIn(text: string): SupervisorState | undefined {
  try {
    return supervisorStateSchema.parse(JSON.parse(text))
  } catch {
    return undefined
  }
}

/** Gives a file another name, with all that is in it at once. @returns false where that name is taken */
function putIfAbsent(from: string, path: string): boolean {
  try {
    linkSync(from, path)
    return true
  } catch (err) {
    if (systemCode(err) === 'EEXIST') return false
    if (!NO_LINKS.has(systemCode(err) ?? '')) throw err
  }
  try {
    copyFileSync(from, path, constants.COPYFILE_EXCL)
    return true
  } catch (err) {
    if (systemCode(err) === 'EEXIST') return false
    throw err
  }
}

/** Removes a file that still holds this text: what somebody has put in its place meanwhile stays. */
function takeAway(path: string, text: string): void {
  const aside = `${path}.${process.pid}.old`
  try {
    renameSync(path, aside)
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return
    throw err
  }
  if (readFileSync(aside, 'utf8') !== text) putIfAbsent(aside, path)
  rmSync(aside, { force: true })
}
