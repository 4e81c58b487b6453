import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { MeshError, systemCode, type WorkerStatus, workerStatusSchema } from '../protocol/index.js'
import { makePrivateDir, readRecord, unreadable, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'
import type { WorkerName } from './roles.js'

/** What the running workers of a home say of themselves: one file for each in status/. */

const ADVICE = 'Nothing is lost: the worker writes it anew at its next start. Delete it where no such worker runs'

/** A status file: what it says, or why it says nothing. */
export type StatusFile = { path: string; status: WorkerStatus } | { path: string; problem: MeshError }

/** What one worker says of itself, or said before it was killed; undefined where nothing can be read. */
export function findStatus(home: string, { role, name }: WorkerName): WorkerStatus | undefined {
  const file = readStatusFile(homeFiles(home).status(role, name))
  return file !== undefined && 'status' in file ? file.status : undefined
}

/**
 * Every status file of a home. One that cannot be read, of another version or another user, keeps nobody from the
 * others: it comes with its problem.
 */
export function readStatuses(home: string): StatusFile[] {
  const { statusDir } = homeFiles(home)
  let names: string[]
  try {
    names = readdirSync(statusDir)
  } catch (err) {
    return systemCode(err) === 'ENOENT' ? [] : [{ path: statusDir, problem: unreadable(statusDir, err) }]
  }
  return names
    .filter((name) => name.endsWith('.json'))
    .map((name) => readStatusFile(join(statusDir, name)))
    .filter((file) => file !== undefined)
}

/** @returns undefined where there is no file, which a worker that stops takes away */
function readStatusFile(path: string): StatusFile | undefined {
  try {
    const status = readRecord(path, workerStatusSchema, ADVICE)
    return status && { path, status }
  } catch (err) {
    return { path, problem: MeshError.from(err) }
  }
}

/** Says what runs. */
export function writeStatus(home: string, status: WorkerStatus): void {
  const { statusDir, status: pathOf } = homeFiles(home)
  makePrivateDir(statusDir)
  writeFileAtomic(pathOf(status.role, status.name), `${JSON.stringify(status, null, 2)}\n`, { lasting: false })
}

/** Takes a worker's own status file away. */
export function removeStatus(home: string, { role, name }: WorkerName): void {
  rmSync(homeFiles(home).status(role, name), { force: true })
}
