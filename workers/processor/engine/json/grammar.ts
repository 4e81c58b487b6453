import { literal, oneOf, refuse } from './gbnf.js'
import { SCHEMA_LIMITS } from './limits.js'
import { otherName } from './names.js'
import { numberOf } from './numbers.js'
import { GrammarRules } from './rules.js'
import {
  ANNOTATIONS,
  asList,
  asSchema,
  CONSTRAINTS,
  count,
  isOfType,
  listOf,
  type Schema,
  times,
  typesOf,
} from './schema.js'
import { stringOf } from './strings.js'

/**
 * JSON Schema to GBNF. What the notation cannot say is refused by name: an answer that looks constrained and is not
 * would be worse than an error. The grammar may let through less than the schema does, never more.
 */

/** Comparing so many characters counts as a step. */
const CHARS_A_STEP = 64

/**
 * The grammar of all texts that are JSON and fit the schema.
 * @param param where the schema stands in the request, for errors
 * @throws MeshError BAD_REQUEST naming the keyword that is wrong or cannot be enforced
 */
export function jsonSchemaToGbnf(schema: Record<string, unknown>, param = 'format.schema'): string {
  const rules = new GrammarRules()
  return rules.grammar(addSchema(rules, schema, param))
}

/**
 * Adds the rules that a schema needs.
 * @returns the expression for its values
 * @throws MeshError BAD_REQUEST as `jsonSchemaToGbnf`
 */
export function addSchema(rules: GrammarRules, schema: Record<string, unknown>, param: string): string {
  rules.budget.admit(schema, param)
  return new Converter(rules, schema, param).whole()
}

class Converter {
  readonly #rules: GrammarRules
  readonly #root: Schema
  readonly #param: string
  /** Names of the rules for what is referred to. */
  readonly #refs = new Map<string, string>()
  /** Those that are named and not yet converted. */
  readonly #open: { name: string; target: unknown; path: string }[] = []
  /** Expressions of schemas that are done: parts of `allOf` bring the same ones to many places. */
  readonly #done = new Map<object, string>()
  /** Schemas without `$ref` and `allOf`; undefined while one is being made. */
  readonly #flat = new Map<object, Schema | undefined>()

  constructor(rules: GrammarRules, root: Schema, param: string) {
    this.#rules = rules
    this.#root = root
    this.#param = param
  }

  /** The expression for the whole schema, once all that it refers to has its rule. */
  whole(): string {
    const root = this.#convert(this.#root, this.#param, 0)
    for (let one = this.#open.pop(); one !== undefined; one = this.#open.pop()) {
      this.#rules.set(one.name, this.#convert(one.target, one.path, 0))
    }
    return root
  }

  /** An expression that can stand in a sequence. */
  #convert(given: unknown, path: string, depth: number): string {
    if (given === true) return 'value'
    const schema = asSchema(given, path)
    const known = this.#done.get(schema)
    if (known !== undefined) return known
    this.#rules.budget.spend(path, 1 + Object.keys(schema).length)
    checkDepth(path, depth)
    const expression = this.#expression(schema, path, depth)
    this.#done.set(schema, expression)
    return expression
  }

  #expression(schema: Schema, path: string, depth: number): string {
    for (const key of Object.keys(schema)) {
      if (!CONSTRAINTS.has(key) && !ANNOTATIONS.has(key)) {
        throw refuse(`${path}.${key}`, 'this keyword cannot be enforced here; leave it out')
      }
    }
    const { $ref, anyOf, oneOf: exclusive, allOf, ...own } = schema
    const constrained = Object.keys(own).some((key) => CONSTRAINTS.has(key))
    if ($ref !== undefined) {
      if (!constrained && allOf === undefined) return this.#reference($ref, path)
      return this.#convert({ ...schema, $ref: undefined, allOf: [{ $ref }, ...listOf(allOf, path)] }, path, depth + 1)
    }
    const key = anyOf === undefined ? 'oneOf' : 'anyOf'
    const choices = anyOf ?? exclusive
    if (choices !== undefined) {
      const list = asList(choices, `${path}.${key}`)
      if (list.length === 0) throw refuse(`${path}.${key}`, 'an empty list of choices allows nothing')
      const base = { ...own, ...(allOf !== undefined && { allOf }) }
      const plain = !constrained && allOf === undefined
      return oneOf(
        list.map((one, i) => {
          const at = `${path}.${key}[${i}]`
          return this.#convert(plain ? one : { allOf: [base, one] }, at, depth + 1)
        }),
      )
    }
    if (allOf !== undefined) return this.#convert(this.#merged(own, allOf, path, depth), path, depth + 1)
    if (schema.const !== undefined) return literal(schema.const)
    if (schema.enum !== undefined) return this.#enumeration(schema, path)
    return oneOf(typesOf(schema, path).map((type) => this.#typed(type, schema, path, depth)))
  }

  #enumeration(schema: Schema, path: string): string {
    const values = asList(schema.enum, `${path}.enum`)
    const types = schema.type === undefined ? undefined : typesOf(schema, path)
    const fitting = values.filter((value) => types === undefined || types.some((type) => isOfType(value, type)))
    if (fitting.length === 0) throw refuse(`${path}.enum`, 'an empty list of choices allows nothing')
    return oneOf(fitting.map(literal))
  }

  #reference(ref: unknown, path: string): string {
    const target = this.#resolve(ref, path)
    const known = this.#refs.get(String(ref))
    if (known) return known
    // Named now and converted later, so that a schema may refer to itself, and chains of references be of any length.
    const name = this.#rules.reserve()
    this.#refs.set(String(ref), name)
    this.#open.push({ name, target, path: `${this.#param}${String(ref).slice(1).replaceAll('/', '.')}` })
    return name
  }

  #resolve(ref: unknown, path: string): unknown {
    if (typeof ref !== 'string' || !ref.startsWith('#')) {
      throw refuse(`${path}.$ref`, 'only references into the schema itself are followed, such as #/$defs/name')
    }
    let target: unknown = this.#root
    for (const part of ref.slice(1).split('/').filter(Boolean)) {
      const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
      target = holds(target, key) ? target[key] : undefined
    }
    if (target === undefined) throw refuse(`${path}.$ref`, `${ref} does not exist`)
    return target
  }

  /** allOf as one schema: its parts' properties together, which is what allOf is used for in practice. */
  #merged(own: Schema, allOf: unknown, path: string, depth: number): Schema {
    checkDepth(path, depth)
    const merged: Schema = { ...own }
    for (const [i, part] of asList(allOf, `${path}.allOf`).entries()) {
      const at = `${path}.allOf[${i}]`
      const flat = this.#flattened(part, at, depth + 1)
      this.#rules.budget.spend(at, 1 + Object.keys(flat).length)
      for (const [key, value] of Object.entries(flat)) {
        const before = merged[key]
        if (key === 'properties') merged.properties = this.#bothProperties(before, value, at)
        else if (key === 'required') {
          merged.required = [...new Set([...listOf(before, at), ...asList(value, `${at}.required`)])]
        } else if (before === undefined || ANNOTATIONS.has(key)) merged[key] = value
        else if (!this.#isSame(before, value, at)) {
          throw refuse(`${at}.${key}`, 'stands in two schemas that both apply, with different values')
        }
      }
    }
    return merged
  }

  #bothProperties(before: unknown, value: unknown, path: string): Schema {
    const properties = new Map(Object.entries(asSchema(before ?? {}, path)))
    const added = Object.entries(asSchema(value, `${path}.properties`))
    this.#rules.budget.spend(path, properties.size + added.length)
    for (const [name, schema] of added) {
      const other = properties.get(name)
      const same = other === undefined || this.#isSame(other, schema, path)
      properties.set(name, same ? schema : { allOf: [other, schema] })
    }
    return Object.fromEntries(properties)
  }

  /** A schema without `$ref` and `allOf`, which is made once wherever it is referred to. */
  #flattened(given: unknown, path: string, depth: number): Schema {
    checkDepth(path, depth)
    const schema = asSchema(given, path)
    if (schema.$ref === undefined && schema.allOf === undefined) return schema
    if (this.#flat.has(schema)) {
      const flat = this.#flat.get(schema)
      if (flat === undefined) throw refuse(path, 'applies to itself without end')
      return flat
    }
    this.#flat.set(schema, undefined)
    const { $ref, allOf, ...own } = schema
    const parts = $ref === undefined ? [] : [this.#resolve($ref, path)]
    const flat = this.#merged(own, [...parts, ...listOf(allOf, path)], path, depth)
    this.#flat.set(schema, flat)
    return flat
  }

  #isSame(a: unknown, b: unknown, path: string): boolean {
    if (a === b) return true
    const [one, other] = [JSON.stringify(a), JSON.stringify(b)]
    this.#rules.budget.spend(path, (one.length + other.length) / CHARS_A_STEP)
    return one === other
  }

  #typed(type: string, schema: Schema, path: string, depth: number): string {
    switch (type) {
      case 'object':
        return this.#object(schema, path, depth)
      case 'array':
        return this.#array(schema, path, depth)
      case 'string':
        return stringOf(this.#rules, [schema], path, 'strict')
      case 'number':
      case 'integer':
        return numberOf(this.#rules, type, [schema], path, 'strict')
      default:
        return type
    }
  }

  #array(schema: Schema, path: string, depth: number): string {
    const first = listOf(schema.prefixItems, `${path}.prefixItems`).map((one, i) =>
      this.#convert(one, `${path}.prefixItems[${i}]`, depth + 1),
    )
    const min = count(schema.minItems, `${path}.minItems`) ?? 0
    const max = count(schema.maxItems, `${path}.maxItems`)
    if (max !== undefined && max < min) throw refuse(`${path}.maxItems`, 'is less than minItems')
    if (first.length > 0) {
      if (schema.items !== undefined && schema.items !== false)
        throw refuse(`${path}.items`, 'cannot stand beside prefixItems')
      if (min > first.length) throw refuse(`${path}.minItems`, 'is more than prefixItems has')
      if (max !== undefined && max < first.length) throw refuse(`${path}.maxItems`, 'is less than prefixItems has')
      return this.#rules.rule(`"[" ws ${first.join(' ws "," ws ')} ws "]"`)
    }
    if (max === 0 || schema.items === false) {
      if (min > 0) throw refuse(`${path}.minItems`, 'asks for items, and none are allowed')
      return '"[" ws "]"'
    }
    const item = this.#rules.rule(this.#convert(schema.items ?? true, `${path}.items`, depth + 1))
    const another = this.#rules.rule(`ws "," ws ${item}`)
    const more = times(another, Math.max(0, min - 1), max === undefined ? undefined : max - 1)
    const items = `${item} ${more}`
    return this.#rules.rule(`"[" ws ${min > 0 ? items : `(${items})?`} ws "]"`)
  }

  #object(schema: Schema, path: string, depth: number): string {
    const properties = Object.entries(asSchema(schema.properties ?? {}, `${path}.properties`))
    const names = properties.map(([name]) => name)
    const required = new Set(listOf(schema.required, `${path}.required`))
    for (const name of required) {
      if (!names.some((one) => one === name)) throw refuse(`${path}.required`, `${JSON.stringify(name)} is no property`)
    }
    const extra = schema.additionalProperties ?? properties.length === 0
    let tail: { first: string; later: string } = { first: '', later: '' }
    if (extra !== false) {
      const value = this.#convert(extra, `${path}.additionalProperties`, depth + 1)
      const member = this.#rules.rule(`${otherName(this.#rules, names, path)} ":" ws ${value}`)
      tail = { first: `(${member} (ws "," ws ${member})*)?`, later: `(ws "," ws ${member})*` }
    }
    // From the last property to the first: what may follow a beginning with no member yet, and one that needs a comma.
    for (const [key, value] of properties.reverse()) {
      const at = `${path}.properties.${key}`
      const member = this.#rules.rule(`${literal(key)} ":" ws ${this.#convert(value, at, depth + 1)}`)
      const rest = this.#rules.rule(tail.later || '""')
      const first = `${member} ${rest}`
      const later = `ws "," ws ${member} ${rest}`
      if (required.has(key)) tail = { first, later }
      else tail = { first: oneOf([first, this.#rules.rule(tail.first || '""')]), later: oneOf([later, rest]) }
    }
    return this.#rules.rule(`"{" ws ${tail.first} ws "}"`)
  }
}

function checkDepth(path: string, depth: number): void {
  const limit = SCHEMA_LIMITS.nested
  if (depth > limit) throw refuse(path, `nested more than ${limit} deep`, { limit })
}

/** True for lists as well, whose keys are numbers. */
function holds<K extends string>(value: unknown, key: K): value is Record<K, unknown> {
  return value !== null && typeof value === 'object' && Object.hasOwn(value, key)
}
