import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { homeFiles } from '../home/index.js'
import { MeshError } from '../protocol/index.js'

/** The package's root: the compiled code lies in dist/. */
export const PACKAGE_ROOT = fileURLToPath(new URL('../../..', import.meta.url))

const SHIPPED_DIR = join(PACKAGE_ROOT, 'config', 'facs')
const FILE_ENDING = '.config.json'

export interface ConfigSources {
  home: string
  env: NodeJS.ProcessEnv
  /** From the command line: facility -> key -> value. */
  flags: Record<string, Record<string, unknown>>
}

/** Where a setting came from, for the message that says it is wrong. */
interface Layer {
  source: string
  values: Record<string, unknown>
  nameOf: (key: string) => string
}

/**
 * One facility's settings: the shipped file, the home's own copy, INFERMESH_<FACILITY>__<KEY> variables, then flags;
 * later wins, key by key.
 * @param schema a strict object: an unknown key or a wrong type in any source is an error
 * @throws MeshError CONFIG_INVALID: one line with the source, the key and what was expected
 */
export function loadConfig<T extends z.ZodObject>(facility: string, schema: T, sources: ConfigSources): z.output<T> {
  const file = `${facility}${FILE_ENDING}`
  const layers: Layer[] = [
    fileLayer(join(SHIPPED_DIR, file)),
    fileLayer(join(homeFiles(sources.home).configDir, file)),
    envLayer(facility, schema, sources.env),
    { source: 'command line', values: sources.flags[facility] ?? {}, nameOf: (key) => `--${facility}.${key}` },
  ]
  const merged: Record<string, unknown> = {}
  for (const layer of layers) {
    checkLayer(layer, schema)
    Object.assign(merged, layer.values)
  }
  const result = schema.safeParse(merged)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw MeshError.CONFIG_INVALID(`${facility}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'not valid'}`)
}

/**
 * Refuses settings of facilities that do not exist, which would otherwise be passed over in silence. A facility of
 * another role is no fault: the workers of a home share their sources.
 * @throws MeshError CONFIG_INVALID
 */
export function checkFacilities({ home, env, flags }: ConfigSources): void {
  const known = readdirSync(SHIPPED_DIR).map((file) => file.slice(0, -FILE_ENDING.length))
  const { configDir } = homeFiles(home)
  const given: [facility: string, source: string][] = [
    ...(existsSync(configDir) ? readdirSync(configDir) : [])
      .filter((file) => file.endsWith(FILE_ENDING))
      .map((file): [string, string] => [file.slice(0, -FILE_ENDING.length), join(configDir, file)]),
    ...Object.keys(flags).map((facility): [string, string] => [facility, `--${facility}`]),
  ]
  const constants = new Set(known.map(constantCase))
  for (const name of Object.keys(env)) {
    const facility = /^INFERMESH_(\w+?)__/.exec(name)?.[1]
    if (facility !== undefined && !constants.has(facility)) given.push([facility, name])
  }
  for (const [facility, source] of given) {
    if (known.includes(facility)) continue
    throw MeshError.CONFIG_INVALID(`${source}: unknown facility; known are ${known.join(', ')}`)
  }
}

function fileLayer(path: string): Layer {
  const layer = { source: path, nameOf: (key: string) => `${path}: ${key}` }
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return { ...layer, values: {} }
    throw MeshError.CONFIG_INVALID(`${path} cannot be read: ${(err as Error).message}`)
  }
  let values: unknown
  try {
    values = JSON.parse(text)
  } catch (err) {
    throw MeshError.CONFIG_INVALID(`${path} is not JSON: ${(err as Error).message}`)
  }
  if (values === null || typeof values !== 'object' || Array.isArray(values)) {
    throw MeshError.CONFIG_INVALID(`${path}: expected a JSON object`)
  }
  return { ...layer, values: values as Record<string, unknown> }
}

function envLayer(facility: string, schema: z.ZodObject, env: NodeJS.ProcessEnv): Layer {
  const prefix = `INFERMESH_${constantCase(facility)}__`
  const keys = new Map(Object.keys(schema.shape).map((key) => [constantCase(key), key]))
  const values: Record<string, unknown> = {}
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(prefix) || text === undefined) continue
    const key = keys.get(name.slice(prefix.length)) ?? name.slice(prefix.length)
    const field = schema.shape[key]
    values[key] = field instanceof z.ZodType && field.safeParse(text).success ? text : jsonOrText(text)
  }
  return { source: 'environment', values, nameOf: (key) => prefix + constantCase(key) }
}

/** `bootstrapPort` as BOOTSTRAP_PORT. */
function constantCase(key: string): string {
  return key
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replace(/-/g, '_')
    .toUpperCase()
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function checkLayer(layer: Layer, schema: z.ZodObject): void {
  for (const [key, value] of Object.entries(layer.values)) {
    const field = schema.shape[key]
    if (!(field instanceof z.ZodType)) {
      throw MeshError.CONFIG_INVALID(
        `${layer.nameOf(key)}: unknown key; known are ${Object.keys(schema.shape).join(', ')}`,
      )
    }
    const result = field.safeParse(value)
    if (!result.success) {
      const issue = result.error.issues[0]
      const place = [key, ...(issue?.path ?? [])].join('.')
      throw MeshError.CONFIG_INVALID(
        `${layer.nameOf(place)}: ${issue?.message ?? 'not valid'}, got ${JSON.stringify(value)}`,
      )
    }
  }
}
