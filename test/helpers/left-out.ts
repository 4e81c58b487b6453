import type { Schema } from './schema-maker.js'

/** The same schema without some of its keywords; of a `oneOf` what is left is an `anyOf`. */
export function without(schema: Schema, leftOut: readonly { schema: Schema; keyword: string }[]): Schema {
  const copies = new Map<unknown, unknown>()
  const copy = copied(schema, copies) as Schema
  for (const { schema: at, keyword } of leftOut) {
    const found = copies.get(at) as Schema | undefined
    if (found === undefined) throw new Error(`${keyword} is left out of a schema that is none of the schema's`)
    const { [keyword]: value, allOf = [] } = found
    if (value === undefined) continue
    delete found[keyword]
    if (keyword === 'if') for (const branch of ['then', 'else']) delete found[branch]
    if (keyword === 'oneOf') found.allOf = [...(allOf as unknown[]), { anyOf: value }]
  }
  return copy
}

function copied(value: unknown, copies: Map<unknown, unknown>): unknown {
  if (value === null || typeof value !== 'object') return value
  const copy = Array.isArray(value)
    ? value.map((one) => copied(one, copies))
    : Object.fromEntries(Object.entries(value).map(([key, one]) => [key, copied(one, copies)]))
  copies.set(value, copy)
  return copy
}
