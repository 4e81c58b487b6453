import { homedir } from 'node:os'
import { join } from 'node:path'

/** What workers and the CLI on one machine find in the home (`~/.infermesh`). */

/** The home a person means: `given`, else INFERMESH_HOME, else ~/.infermesh. */
export function homePath(given?: string): string {
  return given ?? process.env.INFERMESH_HOME ?? join(homedir(), '.infermesh')
}

/** Files in a home. Everything marked 0600 holds a secret. What several rooms read has its reader and writer here. */
export function homeFiles(home: string) {
  const workersDir = join(home, 'workers')
  const statusDir = join(home, 'status')
  const logDir = join(home, 'logs')
  return {
    /** MeshProfile as JSON: written by the authority's first start or by `join`. See profile.ts. */
    mesh: join(home, 'mesh.json'),
    /** 0600. Where members of meshes were seen last. See nodes.ts. */
    nodes: join(home, 'nodes.json'),
    /** 0600. The admin's API key, for the CLI. See admin-key.ts. */
    adminKey: join(home, 'admin.key'),
    /** 0600. As whom this home uses a mesh that it did not make: address and API key. See login.ts. */
    login: join(home, 'login.json'),
    /** 0600. What a scraper of the metrics must show, where no setting says it. See metrics-token.ts. */
    metricsToken: join(home, 'metrics.token'),
    /** 0600. A reusable invite with which workers of this same home join. See home-invite.ts. */
    homeInvite: join(home, 'home.invite'),
    /** One `<role>-<name>.json` for each running worker: WorkerStatus. See status.ts. */
    statusDir,
    status: (role: string, name: string) => join(statusDir, `${role}-${name}.json`),
    /** One `<role>-<name>.log` for each worker, JSON lines. */
    logDir,
    log: (role: string, name: string) => join(logDir, `${role}-${name}.log`),
    /** What the supervisor says of the workers, as they do. */
    supervisorLog: join(logDir, 'supervisor.log'),
    /** What Node itself says when the process in the background crashes. */
    supervisorOut: join(logDir, 'supervisor.out'),
    /** A worker's own directory: its identity and its stores. */
    workersDir,
    worker: (role: string, name: string) => join(workersDir, `${role}-${name}`),
    /** This home's own copy of the facilities' settings. See settings.ts. */
    configDir: join(home, 'config', 'facs'),
    /** The workers that `infermesh up` starts here. See roles.ts. */
    roles: join(home, 'roles.json'),
    /** What the supervisor of this home runs. See supervisor.ts. */
    supervisor: join(home, 'supervisor.json'),
    /** 0600. What people typed at `infermesh chat`. */
    chatHistory: join(home, 'chat.history'),
  }
}
