import { homedir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { nameSchema, roleSchema } from '../protocol/index.js'

/** What workers and the CLI on one machine find in the home (`~/.infermesh`). */

/** The home a person means: `given`, else INFERMESH_HOME, else ~/.infermesh. */
export function homePath(given?: string): string {
  return given ?? process.env.INFERMESH_HOME ?? join(homedir(), '.infermesh')
}

/** Files in a home. Everything marked 0600 holds a secret. */
export function homeFiles(home: string) {
  return {
    /** MeshProfile as JSON: written by the authority's first start or by `join`. */
    mesh: join(home, 'mesh.json'),
    /** 0600. The admin's API key, for the CLI. */
    adminKey: join(home, 'admin.key'),
    /** 0600. A reusable invite with which workers of this same home join. */
    homeInvite: join(home, 'home.invite'),
    /** One `<role>-<name>.json` for each running worker: WorkerStatus. */
    statusDir: join(home, 'status'),
    status: (role: string, name: string) => join(home, 'status', `${role}-${name}.json`),
    /** One `<role>-<name>.log` for each worker, JSON lines. */
    logDir: join(home, 'logs'),
    log: (role: string, name: string) => join(home, 'logs', `${role}-${name}.log`),
    /** A worker's own directory: its identity and its stores. */
    worker: (role: string, name: string) => join(home, 'workers', `${role}-${name}`),
    /** This home's own copy of the facilities' settings. */
    configDir: join(home, 'config', 'facs'),
    /** The workers that `infermesh up` starts here: WorkerName[]. */
    roles: join(home, 'roles.json'),
    /** What the supervisor of this home runs: SupervisorState. */
    supervisor: join(home, 'supervisor.json'),
    /** 0600. What people typed at `infermesh chat`. */
    chatHistory: join(home, 'chat.history'),
  }
}

export const workerNameSchema = z.object({ role: roleSchema, name: nameSchema })
export type WorkerName = z.infer<typeof workerNameSchema>

export const supervisorStateSchema = z.object({
  pid: z.int(),
  startedAt: z.number(),
  roles: z.array(workerNameSchema),
})
export type SupervisorState = z.infer<typeof supervisorStateSchema>
