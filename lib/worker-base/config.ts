import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { facilitiesIn, homeFiles, readSettings, settingsPath } from '../home/index.js'
import { check, MeshError } from '../protocol/index.js'

/** The package's root: the compiled code lies in dist/. */
export const PACKAGE_ROOT = fileURLToPath(new URL('../../..', import.meta.url))

const SHIPPED_DIR = join(PACKAGE_ROOT, 'config', 'facs')

/** Keys that former versions had, by facility: a home's own settings may still hold one, and its workers start all the same. */
const REMOVED: Record<string, readonly string[]> = { log: ['prompts'] }

export interface ConfigSources {
  home: string
  env: NodeJS.ProcessEnv
  /** From the command line: facility -> key -> value. */
  flags: Record<string, Record<string, unknown>>
}

/** The settings of one source. */
interface Layer {
  values: Record<string, unknown>
  /** Where one of them stands, for the message that says it is wrong. */
  nameOf: (key: string) => string
}

/**
 * One facility's settings: the shipped file, the home's own copy, INFERMESH_<FACILITY>__<KEY> variables, then flags;
 * later wins, key by key.
 * @param schema a strict object: an unknown key or a wrong type in any source is an error; a removed key is passed over
 * @throws MeshError CONFIG_INVALID: one line with the source, the key and what was expected
 */
export function loadConfig<T extends z.ZodObject>(facility: string, schema: T, sources: ConfigSources): z.output<T> {
  const shipped = fileLayer(settingsPath(SHIPPED_DIR, facility))
  const merged: Record<string, unknown> = {}
  for (const { values, nameOf } of [shipped, ...ownLayers(facility, schema.shape, sources)]) {
    const kept = Object.fromEntries(Object.entries(values).filter(([key]) => !REMOVED[facility]?.includes(key)))
    checkLayer({ values: kept, nameOf }, schema.shape)
    Object.assign(merged, kept)
  }
  const result = check(schema, merged)
  if ('data' in result) return result.data
  const { path, message } = result.fault
  throw MeshError.CONFIG_INVALID(`${facility}: ${path.join('.')}: ${message}`)
}

/** What a person, or a former version for one, has set, in the order in which it counts. */
function ownLayers(facility: string, shape: z.ZodObject['shape'], { home, env, flags }: ConfigSources): Layer[] {
  return [
    fileLayer(settingsPath(homeFiles(home).configDir, facility)),
    envLayer(facility, shape, env),
    { values: flags[facility] ?? {}, nameOf: (key) => `--${facility}.${key}` },
  ]
}

/** One line for each setting that means nothing any more. @throws MeshError CONFIG_INVALID */
export function removedSettings(sources: ConfigSources): string[] {
  return Object.entries(REMOVED).flatMap(([facility, keys]) => {
    const layers = ownLayers(facility, {}, sources)
    return layers.flatMap(({ values, nameOf }) =>
      keys
        .filter((key) => key in values)
        .map((key) => `${nameOf(key)}: there is no such setting any more: take it out`),
    )
  })
}

/**
 * Refuses settings of facilities that do not exist, which would otherwise be passed over in silence. A facility of
 * another role is no fault: the workers of a home share their sources.
 * @throws MeshError CONFIG_INVALID
 */
export function checkFacilities({ home, env, flags }: ConfigSources): void {
  const known = facilitiesIn(SHIPPED_DIR)
  const { configDir } = homeFiles(home)
  const given: [facility: string, source: string][] = [
    ...facilitiesIn(configDir).map((facility): [string, string] => [facility, settingsPath(configDir, facility)]),
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
  return { values: readSettings(path), nameOf: (key: string) => `${path}: ${key}` }
}

function envLayer(facility: string, shape: z.ZodObject['shape'], env: NodeJS.ProcessEnv): Layer {
  const prefix = `INFERMESH_${constantCase(facility)}__`
  const names = [...Object.keys(shape), ...(REMOVED[facility] ?? [])]
  const keys = new Map(names.map((key) => [constantCase(key), key]))
  const values: Record<string, unknown> = {}
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(prefix) || text === undefined) continue
    const key = keys.get(name.slice(prefix.length)) ?? name.slice(prefix.length)
    const field = shape[key]
    values[key] = field instanceof z.ZodType && field.safeParse(text).success ? text : jsonOrText(text)
  }
  return { values, nameOf: (key) => prefix + constantCase(key) }
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

function checkLayer(layer: Layer, shape: z.ZodObject['shape']): void {
  for (const [key, value] of Object.entries(layer.values)) {
    const field = shape[key]
    if (!(field instanceof z.ZodType)) {
      throw MeshError.CONFIG_INVALID(`${layer.nameOf(key)}: unknown key; known are ${Object.keys(shape).join(', ')}`)
    }
    const result = check(field, value)
    if ('data' in result) continue
    const { path, message } = result.fault
    const place = [key, ...path].join('.')
    throw MeshError.CONFIG_INVALID(`${layer.nameOf(place)}: ${message}, got ${JSON.stringify(value)}`)
  }
}
