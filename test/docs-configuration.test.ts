import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { z } from 'zod'
import { ROLES } from '../lib/protocol/index.js'
import { BaseWorker, netConfigSchema, PACKAGE_ROOT } from '../lib/worker-base/index.js'
import { portsOf } from '../lib/worker-base/net/ports.js'
import { GatewayWorker } from '../workers/gateway/index.js'
import { MetricsWorker } from '../workers/metrics/index.js'
import { ProcessorWorker } from '../workers/processor/index.js'
import { start, startAuth, testHome, testOptions } from './helpers/mesh.js'
import { readPage, rowsOf, sectionsOf } from './helpers/page.js'

/** docs/configuration.md against the schemas that the workers check their settings with, and against config/facs. */

interface Facility {
  schema: z.ZodObject
  /** Who reads it. */
  roles: Set<string>
}

/** Every facility that any worker asks for, with the schema that it gives. */
async function facilities(t: Test): Promise<Map<string, Facility>> {
  const found = new Map<string, Facility>()
  const { config } = BaseWorker.prototype
  BaseWorker.prototype.config = function (this: BaseWorker, facility, schema) {
    const known = found.get(facility) ?? { schema, roles: new Set() }
    known.roles.add(this.role)
    found.set(facility, known)
    return config.call(this, facility, schema) as never
  }
  t.teardown(() => {
    BaseWorker.prototype.config = config
  })
  const home = await testHome(t)
  await startAuth(t, home)
  await start(t, new GatewayWorker(testOptions(home, 'g1')))
  await start(t, new ProcessorWorker(testOptions(home, 'p1', { engine: { embedded: false, gpu: 'off' } })))
  await start(t, new MetricsWorker(testOptions(home, 'm1', { metrics: { port: 0 } })))
  return found
}

interface JsonSchema {
  type?: string
  enum?: string[]
  minimum?: number
  maximum?: number
  items?: JsonSchema
}

/** A type in the page's words. */
function typeOf({ type, enum: values, minimum = 0, maximum = 0, items }: JsonSchema): string {
  if (values !== undefined) return values.map((value) => `\`${value}\``).join(', ')
  if (type === 'array') return `list of ${typeOf(items ?? {})}s`
  if (type === 'string') return 'text'
  if (type === 'boolean') return '`true`, `false`'
  if (type === 'integer' && maximum >= Number.MAX_SAFE_INTEGER) return `integer from ${minimum}`
  if (type === 'integer') return `integer, ${minimum} to ${maximum}`
  return type ?? 'anything'
}

/** The rows that a facility's table must have: key, type and default. */
function expectedRows(facility: string, schema: z.ZodObject): Map<string, string[]> {
  const file = join(PACKAGE_ROOT, 'config', 'facs', `${facility}.config.json`)
  const defaults: Record<string, unknown> = schema.parse(JSON.parse(readFileSync(file, 'utf8')))
  const { properties = {} } = z.toJSONSchema(schema) as { properties?: Record<string, JsonSchema> }
  const shown = (value: unknown) => (value === '' ? '' : `\`${JSON.stringify(value).replace(/^"|"$/g, '')}\``)
  return new Map(
    Object.entries(properties).map(([key, type]) => [key, [`\`${key}\``, typeOf(type), shown(defaults[key])]]),
  )
}

test('docs/configuration.md lists every facility and key with its type and default, and nothing else', async (t) => {
  const found = await facilities(t)
  const files = readdirSync(join(PACKAGE_ROOT, 'config', 'facs')).map((file) => file.replace('.config.json', ''))
  t.alike([...found.keys()].sort(), files.sort(), 'each file of config/facs is read by a worker')

  const sections = sectionsOf(readPage('configuration.md'))
  const readers = ({ roles }: Facility) => (roles.size === ROLES.length ? 'every worker' : [...roles].join(', '))
  const headings = [...found].map(([facility, about]) => `${facility}: ${readers(about)}`)
  const told = [...sections.keys()].filter((title) => /^\w+: /.test(title))
  t.alike(told.sort(), headings.sort())

  const http = expectedRows('http', (found.get('http') as Facility).schema)
  for (const [facility, about] of found) {
    const rows = expectedRows(facility, about.schema)
    const title = `${facility}: ${readers(about)}`
    // A facility with an HTTP server of its own says so, and lists what differs.
    if (sections.get(title)?.includes('every key of `http`')) {
      for (const [key, row] of http) {
        t.ok(rows.has(key), `${facility} has the key ${key} of http`)
        if (String(rows.get(key)) === String(row)) rows.delete(key)
      }
    }
    const listed = rowsOf(sections, title).map((cells) => cells.slice(0, 3))
    t.alike(listed.sort(), [...rows.values()].sort(), title)
    for (const [key, , , meaning = ''] of rowsOf(sections, title)) t.ok(meaning.trim() !== '', `${key} says what it is`)
  }
})

test('docs/configuration.md names the UDP ports of each role', (t) => {
  const file = join(PACKAGE_ROOT, 'config', 'facs', 'net.config.json')
  const config = netConfigSchema.parse(JSON.parse(readFileSync(file, 'utf8')))
  const expected = ROLES.map((role) => {
    const { first, last } = portsOf(role, config) ?? {}
    return [`\`${role}\``, `${first} to ${last}`]
  })
  t.alike(rowsOf(sectionsOf(readPage('configuration.md')), 'UDP ports'), expected.toSorted(byPort))
})

const byPort = ([, a = '']: string[], [, b = '']: string[]) => a.localeCompare(b)
