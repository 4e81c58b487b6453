import { MeshError } from '../../../lib/protocol/errors.js'

/**
 * JSON Schema to GBNF. What the notation cannot say (a pattern, a range of numbers) is refused by name: an answer that
 * looks constrained and is not would be worse than an error.
 */

/** Keywords that describe and do not constrain, or that this converter reads. */
const KNOWN = new Set(
  (
    'type properties required additionalProperties items prefixItems minItems maxItems enum const anyOf oneOf allOf ' +
    '$ref $defs definitions minLength maxLength format minimum ' +
    'title description default examples example deprecated readOnly writeOnly nullable $schema $id $anchor $comment strict'
  ).split(' '),
)

const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']
const MOST_DEPTH = 64
/** llama.cpp refuses repetitions beyond this. */
const MOST_REPEATS = 2000

const BASE: Record<string, string> = {
  ws: String.raw`| " " | "\n" [ \t]{0,20}`,
  char: String.raw`[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})`,
  string: String.raw`"\"" char* "\""`,
  integral: '"0" | [1-9] [0-9]{0,15}',
  integer: '"-"? integral',
  number: '"-"? positive',
  positive: 'integral ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?',
  boolean: '"true" | "false"',
  null: '"null"',
  value: 'object | array | string | number | boolean | null',
  member: 'string ":" ws value',
  object: '"{" ws (member ("," ws member)*)? ws "}"',
  array: '"[" ws (value ("," ws value)*)? ws "]"',
  digit4: '[0-9]{4}',
  date: 'digit4 "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9] | "3" [01])',
  time: '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{3})? ("Z" | [-+] [0-9]{2} ":" [0-9]{2})',
  hex4: '[0-9a-fA-F]{4}',
}

const FORMATS: Record<string, string> = {
  date: String.raw`"\"" date "\""`,
  time: String.raw`"\"" time "\""`,
  'date-time': String.raw`"\"" date "T" time "\""`,
  uuid: String.raw`"\"" hex4 hex4 "-" hex4 "-" hex4 "-" hex4 "-" hex4 hex4 hex4 "\""`,
}

/**
 * The grammar of all texts that are JSON and fit the schema.
 * @throws MeshError BAD_REQUEST naming the keyword that is wrong or cannot be enforced
 */
export function jsonSchemaToGbnf(schema: Record<string, unknown>): string {
  const converter = new Converter(schema)
  const root = converter.convert(schema, 'schema', 0)
  return [`root ::= ${root}`, ...converter.lines()].join('\n')
}

type Schema = Record<string, unknown>

class Converter {
  readonly #root: Schema
  readonly #rules = new Map<string, string>()
  readonly #refs = new Map<string, string>()

  constructor(root: Schema) {
    this.#root = root
  }

  /** Own rules, and all base rules: llama.cpp does not mind those that nobody uses. */
  lines(): string[] {
    return [...this.#rules, ...Object.entries(BASE)].map(([name, body]) => `${name} ::= ${body}`)
  }

  #rule(body: string): string {
    const name = `r${this.#rules.size}`
    this.#rules.set(name, body)
    return name
  }

  /** An expression that can stand in a sequence. */
  convert(given: unknown, path: string, depth: number): string {
    if (given === true) return 'value'
    const schema = asSchema(given, path)
    if (depth > MOST_DEPTH) throw refuse(path, `nested more than ${MOST_DEPTH} deep`)
    for (const key of Object.keys(schema)) {
      if (!KNOWN.has(key)) throw refuse(`${path}.${key}`, 'this keyword cannot be enforced here; leave it out')
    }
    if (schema.$ref !== undefined) return this.#reference(schema.$ref, path)
    if (schema.const !== undefined) return literal(schema.const)
    if (schema.enum !== undefined) return group(asList(schema.enum, `${path}.enum`).map(literal))
    const choices = schema.anyOf ?? schema.oneOf
    if (choices !== undefined) {
      const list = asList(choices, `${path}.anyOf`)
      return group(list.map((one, i) => this.convert(one, `${path}.anyOf[${i}]`, depth + 1)))
    }
    if (schema.allOf !== undefined) return this.convert(this.#merged(schema, path), path, depth + 1)
    return group(typesOf(schema, path).map((type) => this.#typed(type, schema, path, depth)))
  }

  #reference(ref: unknown, path: string): string {
    if (typeof ref !== 'string' || !ref.startsWith('#')) {
      throw refuse(`${path}.$ref`, 'only references into the schema itself are followed, such as #/$defs/name')
    }
    const known = this.#refs.get(ref)
    if (known) return known
    // Named before it is converted, so that a schema may refer to itself.
    const name = `ref${this.#refs.size}`
    this.#refs.set(ref, name)
    this.#rules.set(name, '')
    this.#rules.set(name, this.convert(this.#resolve(ref, path), ref, 0))
    return name
  }

  #resolve(ref: string, path: string): unknown {
    let target: unknown = this.#root
    for (const part of ref.slice(1).split('/').filter(Boolean)) {
      const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
      const holder = target as Record<string, unknown> | null
      target = holder !== null && typeof holder === 'object' && Object.hasOwn(holder, key) ? holder[key] : undefined
    }
    if (target === undefined) throw refuse(`${path}.$ref`, `${ref} does not exist`)
    return target
  }

  /** allOf as one schema: its parts' properties together, which is what allOf is used for in practice. */
  #merged(schema: Schema, path: string): Schema {
    const { allOf, ...own } = schema
    const merged: Schema = { ...own }
    for (const [i, given] of asList(allOf, `${path}.allOf`).entries()) {
      let part = asSchema(given, `${path}.allOf[${i}]`)
      if (part.$ref !== undefined) part = asSchema(this.#resolve(String(part.$ref), path), path)
      for (const [key, value] of Object.entries(part)) {
        if (key === 'properties') merged.properties = { ...(merged.properties as Schema), ...(value as Schema) }
        else if (key === 'required')
          merged.required = [...((merged.required as unknown[]) ?? []), ...(value as unknown[])]
        else if (merged[key] === undefined) merged[key] = value
        else if (JSON.stringify(merged[key]) !== JSON.stringify(value)) {
          throw refuse(`${path}.allOf[${i}].${key}`, 'stands in two parts of allOf with different values')
        }
      }
    }
    return merged
  }

  #typed(type: string, schema: Schema, path: string, depth: number): string {
    switch (type) {
      case 'object':
        return this.#object(schema, path, depth)
      case 'array':
        return this.#array(schema, path, depth)
      case 'string':
        return this.#string(schema, path)
      case 'number':
      case 'integer':
        return this.#number(type, schema, path)
      default:
        return type
    }
  }

  #number(type: 'number' | 'integer', schema: Schema, path: string): string {
    if (schema.minimum === undefined) return type
    if (schema.minimum !== 0) throw refuse(`${path}.minimum`, 'only 0 can be enforced; leave it out')
    return type === 'integer' ? 'integral' : 'positive'
  }

  #string(schema: Schema, path: string): string {
    if (schema.format !== undefined) {
      const format = FORMATS[String(schema.format)]
      if (!format) throw refuse(`${path}.format`, `cannot be enforced; known are ${Object.keys(FORMATS).join(', ')}`)
      return format
    }
    const repeats = repetition('char', schema.minLength, schema.maxLength, path, 'Length')
    return repeats === 'char*' ? 'string' : String.raw`"\"" ${repeats} "\""`
  }

  #array(schema: Schema, path: string, depth: number): string {
    const first = asList(schema.prefixItems ?? [], `${path}.prefixItems`).map((one, i) =>
      this.convert(one, `${path}.prefixItems[${i}]`, depth + 1),
    )
    const min = count(schema.minItems, `${path}.minItems`) ?? 0
    const max = count(schema.maxItems, `${path}.maxItems`)
    if (first.length > 0) {
      if (schema.items !== undefined && schema.items !== false)
        throw refuse(`${path}.items`, 'cannot stand beside prefixItems')
      return this.#rule(`"[" ws ${first.join(' ws "," ws ')} ws "]"`)
    }
    if (max !== undefined && max < min) throw refuse(`${path}.maxItems`, 'is less than minItems')
    if (max === 0 || schema.items === false) return '"[" ws "]"'
    const item = this.#rule(this.convert(schema.items ?? true, `${path}.items`, depth + 1))
    const more = repetition(
      `(ws "," ws ${item})`,
      Math.max(0, min - 1),
      max === undefined ? undefined : max - 1,
      path,
      'Items',
    )
    const items = `${item} ${more}`
    return this.#rule(`"[" ws ${min > 0 ? items : `(${items})?`} ws "]"`)
  }

  #object(schema: Schema, path: string, depth: number): string {
    const properties = Object.entries(asSchema(schema.properties ?? {}, `${path}.properties`))
    const required = new Set(asList(schema.required ?? [], `${path}.required`))
    for (const name of required) {
      if (!properties.some(([key]) => key === name))
        throw refuse(`${path}.required`, `${JSON.stringify(name)} is no property`)
    }
    const extra = schema.additionalProperties ?? properties.length === 0
    let tail: { first: string; later: string } = { first: '', later: '' }
    if (extra !== false) {
      const member = this.#rule(`string ":" ws ${this.convert(extra, `${path}.additionalProperties`, depth + 1)}`)
      tail = { first: `(${member} (ws "," ws ${member})*)?`, later: `(ws "," ws ${member})*` }
    }
    // From the last property to the first: what may follow a beginning with no member yet, and one that needs a comma.
    for (const [key, value] of properties.reverse()) {
      const member = this.#rule(`${literal(key)} ":" ws ${this.convert(value, `${path}.${key}`, depth + 1)}`)
      const rest = this.#rule(tail.later || '""')
      const first = `${member} ${rest}`
      const later = `ws "," ws ${member} ${rest}`
      if (required.has(key)) tail = { first, later }
      else tail = { first: group([first, this.#rule(tail.first || '""')]), later: group([later, rest]) }
    }
    return this.#rule(`"{" ws ${tail.first} ws "}"`)
  }
}

function asSchema(value: unknown, path: string): Schema {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw refuse(path, 'expected an object')
  return value as Schema
}

function asList(value: unknown, path: string): unknown[] {
  if (!Array.isArray(value)) throw refuse(path, 'expected an array')
  return value
}

function typesOf(schema: Schema, path: string): string[] {
  if (schema.type === undefined) {
    if (schema.properties !== undefined || schema.required !== undefined) return ['object']
    if (schema.items !== undefined || schema.prefixItems !== undefined) return ['array']
    return TYPES.filter((type) => type !== 'integer')
  }
  const types = Array.isArray(schema.type) ? schema.type : [schema.type]
  const wrong = types.find((type) => !TYPES.includes(type))
  if (types.length === 0 || wrong !== undefined) {
    throw refuse(`${path}.type`, `${JSON.stringify(wrong)} is no type; known are ${TYPES.join(', ')}`)
  }
  return types
}

function group(choices: string[]): string {
  if (choices.length === 0) throw refuse('schema', 'an empty list of choices allows nothing')
  return choices.length === 1 ? (choices[0] as string) : `(${choices.join(' | ')})`
}

/** A JSON value as the text that stands for it. */
function literal(value: unknown): string {
  return `"${JSON.stringify(value).replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n')}"`
}

function count(value: unknown, path: string): number | undefined {
  if (value === undefined) return undefined
  if (!Number.isInteger(value) || (value as number) < 0) throw refuse(path, 'expected a whole number, 0 or more')
  if ((value as number) > MOST_REPEATS) throw refuse(path, `at most ${MOST_REPEATS} can be enforced`)
  return value as number
}

function repetition(what: string, min: unknown, max: unknown, path: string, unit: string): string {
  const least = count(min, `${path}.min${unit}`) ?? 0
  const most = count(max, `${path}.max${unit}`)
  if (most !== undefined && most < least) throw refuse(`${path}.max${unit}`, `is less than min${unit}`)
  if (least === 0 && most === undefined) return `${what}*`
  return `${what}{${least},${most ?? ''}}`
}

function refuse(path: string, why: string): MeshError {
  return MeshError.BAD_REQUEST(`The JSON schema does not compile: ${path}: ${why}`, { param: 'format.schema' })
}
