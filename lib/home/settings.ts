import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { MeshError, messageOf } from '../protocol/index.js'
import { makePrivateDir, readIfThere, writeFileAtomic } from './files.js'

/** Settings of facilities: <facility>.config.json, in the package and in a home's own copy. People write these. */

const ENDING = '.config.json'

const settingsSchema = z.record(z.string(), z.unknown())

/** The file with a facility's settings, in one of the folders of such files. */
export function settingsPath(configDir: string, facility: string): string {
  return join(configDir, `${facility}${ENDING}`)
}

/**
 * What a settings file says, by key; nothing where there is none.
 * @throws MeshError CONFIG_INVALID when it cannot be read or is no JSON object
 */
export function readSettings(path: string): Record<string, unknown> {
  const text = readIfThere(path)
  if (text === undefined) return {}
  let values: unknown
  try {
    values = JSON.parse(text)
  } catch (err) {
    throw MeshError.CONFIG_INVALID(`${path} is not JSON: ${messageOf(err)}`)
  }
  const settings = settingsSchema.safeParse(values)
  if (!settings.success) throw MeshError.CONFIG_INVALID(`${path}: expected a JSON object`)
  return settings.data
}

/**
 * Puts one setting of a facility into a folder of such files; what else the file says stays.
 * @throws MeshError CONFIG_INVALID when the file that is there cannot be read or is no JSON object
 */
export function writeSetting(configDir: string, facility: string, key: string, value: unknown): void {
  const path = settingsPath(configDir, facility)
  const settings = { ...readSettings(path), [key]: value }
  makePrivateDir(configDir)
  writeFileAtomic(path, `${JSON.stringify(settings, null, 2)}\n`)
}

/** The facilities that a folder has settings of. */
export function facilitiesIn(configDir: string): string[] {
  return (existsSync(configDir) ? readdirSync(configDir) : [])
    .filter((file) => file.endsWith(ENDING))
    .map((file) => file.slice(0, -ENDING.length))
}
