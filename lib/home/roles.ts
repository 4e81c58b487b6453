import { existsSync, readdirSync } from 'node:fs'
import { z } from 'zod'
import { nameSchema, roleSchema } from '../protocol/index.js'
import { makePrivateDir, readRecord, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** The workers that `infermesh up` starts in a home: roles.json. */

export const workerNameSchema = z.object({ role: roleSchema, name: nameSchema })
export type WorkerName = z.infer<typeof workerNameSchema>

const ADVICE = 'Delete it: `infermesh up --role <role>:<name>` says which workers to start'

/**
 * The workers that this home starts; undefined where nothing has said so.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or names no workers
 */
export function readRoles(home: string): WorkerName[] | undefined {
  return readRecord(homeFiles(home).roles, z.array(workerNameSchema).min(1), ADVICE)
}

/** Keeps which workers `infermesh up` starts in this home. */
export function writeRoles(home: string, workers: readonly WorkerName[]): void {
  makePrivateDir(home)
  writeFileAtomic(homeFiles(home).roles, `${JSON.stringify(workers.map(({ role, name }) => ({ role, name })))}\n`)
}

/** Whether the authority of the home's mesh lives in this home: the mesh was made here, and its other homes have joined. */
export function hasAuthority(home: string): boolean {
  const { workersDir } = homeFiles(home)
  return existsSync(workersDir) && readdirSync(workersDir).some((folder) => folder.startsWith('auth-'))
}
