import { rmSync } from 'node:fs'
import { z } from 'zod'
import { meshProfileSchema, nameSchema, parseApiKey } from '../protocol/index.js'
import { makePrivateDir, readRecord, writeFileAtomic } from './files.js'
import { homeFiles } from './paths.js'

/** As whom a home uses a mesh that it did not make: login.json. */

const loginSchema = z.object({
  profile: meshProfileSchema,
  key: z.string().refine((text) => parseApiKey(text) !== undefined, 'expected an API key'),
  user: nameSchema,
  /** Whether the key was made for this home alone, with a password: `logout` then revokes it. */
  own: z.boolean(),
})
export type Login = z.infer<typeof loginSchema>

const ADVICE = 'Delete it, and log in again with `infermesh login`'

/**
 * As whom this home is logged in, and to which mesh; undefined where it is not.
 * @throws MeshError CONFIG_INVALID when the file cannot be read or says something else
 */
export function findLogin(home: string): Login | undefined {
  return readRecord(homeFiles(home).login, loginSchema, ADVICE)
}

/** Where a home keeps its login, for messages. */
export function loginPath(home: string): string {
  return homeFiles(home).login
}

/** Keeps a login in the home, readable by its owner only. */
export function writeLogin(home: string, login: Login): void {
  makePrivateDir(home)
  writeFileAtomic(homeFiles(home).login, `${JSON.stringify(login, null, 2)}\n`, { mode: 0o600 })
}

/** Forgets it. */
export function removeLogin(home: string): void {
  rmSync(homeFiles(home).login, { force: true })
}
