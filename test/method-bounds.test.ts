import test from 'brittle'
import { z } from 'zod'
import { methods } from '../lib/protocol/index.js'
import { METHOD_NAMES } from '../lib/protocol/methods.js'
import { namesIn, readPage, rowsOf, sectionsOf } from './helpers/page.js'

/** What every method says of itself, read from the schemas that the requests are checked against. */

interface JsonSchema {
  type?: string
  const?: unknown
  enum?: unknown[]
  maxLength?: number
  maxItems?: number
  maxProperties?: number
  properties?: Record<string, JsonSchema>
  additionalProperties?: JsonSchema | boolean
  propertyNames?: JsonSchema
  items?: JsonSchema
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  allOf?: JsonSchema[]
}

/** The places of a schema that take a text, a list or an object of any length. */
function unbounded(schema: JsonSchema, at: string): string[] {
  const { type, properties = {}, additionalProperties: others, propertyNames, items } = schema
  const found: string[] = []
  if (schema.const !== undefined || schema.enum !== undefined) return []
  const isAny = type === undefined && schema.anyOf === undefined && schema.oneOf === undefined
  if (isAny && schema.maxItems === undefined) found.push(`${at}: anything`)
  if (type === 'string' && schema.maxLength === undefined) found.push(`${at}: text`)
  if (type === 'array' && schema.maxItems === undefined) found.push(`${at}: list`)
  if (type === 'object' && others !== false && schema.maxProperties === undefined) found.push(`${at}: object`)
  if (items !== undefined) found.push(...unbounded(items, `${at}[]`))
  if (propertyNames !== undefined) found.push(...unbounded(propertyNames, `${at}.*`))
  // What is under a free field is bounded by the length of the request alone.
  if (typeof others === 'object' && Object.keys(others).length > 0) found.push(...unbounded(others, `${at}.?`))
  for (const [name, field] of Object.entries(properties)) found.push(...unbounded(field, `${at}.${name}`))
  const { anyOf = [], oneOf = [], allOf = [] } = schema
  for (const one of [...anyOf, ...oneOf, ...allOf]) found.push(...unbounded(one, at))
  return found
}

test('every text, list and object of every request has a bound', (t) => {
  t.alike(unbounded({ type: 'array', items: { type: 'string' } }, 'x'), ['x: list', 'x[]: text'], 'the test finds them')
  for (const name of METHOD_NAMES) {
    const schema = z.toJSONSchema(methods[name].request, { io: 'input', unrepresentable: 'any' }) as JsonSchema
    t.alike(unbounded(schema, name), [], name)
    t.ok(schema.anyOf ?? schema.oneOf ?? schema.additionalProperties === false, `${name} takes no other fields`)
  }
})

test('every list is asked for in pages', (t) => {
  for (const name of METHOD_NAMES.filter((one) => /\.list$|^models$|^usage\.query$/.test(one))) {
    const { properties: asked = {} } = z.toJSONSchema(methods[name].request, {
      io: 'input',
      unrepresentable: 'any',
    }) as JsonSchema
    const { properties: given = {} } = z.toJSONSchema(methods[name].response) as JsonSchema
    t.ok('limit' in asked && 'after' in asked, `${name} takes limit and after`)
    t.ok('has_more' in given && 'next' in given, `${name} says whether there is more`)
  }
})

test('docs/security.md has every method, its callers and its scope', (t) => {
  const rows = rowsOf(sectionsOf(readPage('security.md')), 'Who may call what')
  t.alike(
    rows.map(([name, callers, scope]) => [namesIn(name)[0], callers?.split(', ').sort(), scope?.replaceAll('`', '')]),
    METHOD_NAMES.map((name) => [name, [...methods[name].callers].sort(), methods[name].scope]),
  )
})
