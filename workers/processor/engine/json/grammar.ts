import { hex, literal, oneOf, quoted, refuse } from './gbnf.js'
import { boundedNumber } from './numbers.js'
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

const MOST_DEPTH = 64

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
  return new Converter(rules, schema, param).convert(schema, param, 0)
}

class Converter {
  readonly #rules: GrammarRules
  readonly #root: Schema
  readonly #param: string
  readonly #refs = new Map<string, string>()

  constructor(rules: GrammarRules, root: Schema, param: string) {
    this.#rules = rules
    this.#root = root
    this.#param = param
  }

  /** An expression that can stand in a sequence. */
  convert(given: unknown, path: string, depth: number): string {
    if (given === true) return 'value'
    const schema = asSchema(given, path)
    if (depth > MOST_DEPTH) throw refuse(path, `nested more than ${MOST_DEPTH} deep`)
    for (const key of Object.keys(schema)) {
      if (!CONSTRAINTS.has(key) && !ANNOTATIONS.has(key)) {
        throw refuse(`${path}.${key}`, 'this keyword cannot be enforced here; leave it out')
      }
    }
    const { $ref, anyOf, oneOf: exclusive, allOf, ...own } = schema
    const constrained = Object.keys(own).some((key) => CONSTRAINTS.has(key))
    if ($ref !== undefined) {
      if (!constrained && allOf === undefined) return this.#reference($ref, path)
      return this.convert({ ...schema, $ref: undefined, allOf: [{ $ref }, ...listOf(allOf, path)] }, path, depth + 1)
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
          return this.convert(plain ? one : { allOf: [base, one] }, at, depth + 1)
        }),
      )
    }
    if (allOf !== undefined) return this.convert(this.#merged(own, allOf, path, depth), path, depth + 1)
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
    // Named before it is converted, so that a schema may refer to itself.
    const name = this.#rules.rule('')
    this.#refs.set(String(ref), name)
    this.#rules.set(name, this.convert(target, `${this.#param}${String(ref).slice(1).replaceAll('/', '.')}`, 0))
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
    if (depth > MOST_DEPTH) throw refuse(path, `nested more than ${MOST_DEPTH} deep`)
    const merged: Schema = { ...own }
    for (const [i, given] of asList(allOf, `${path}.allOf`).entries()) {
      const at = `${path}.allOf[${i}]`
      let part = asSchema(given, at)
      if (part.$ref !== undefined) {
        const { $ref, ...rest } = part
        part = { ...rest, allOf: [this.#resolve($ref, at), ...listOf(rest.allOf, at)] }
      }
      if (part.allOf !== undefined) {
        const { allOf: inner, ...rest } = part
        part = this.#merged(rest, inner, at, depth + 1)
      }
      for (const [key, value] of Object.entries(part)) {
        const before = merged[key]
        if (key === 'properties') {
          merged.properties = { ...asSchema(before ?? {}, at), ...asSchema(value, `${at}.properties`) }
        } else if (key === 'required') {
          merged.required = [...listOf(before, at), ...asList(value, `${at}.required`)]
        } else if (before === undefined || ANNOTATIONS.has(key)) merged[key] = value
        else if (JSON.stringify(before) !== JSON.stringify(value)) {
          throw refuse(`${at}.${key}`, 'stands in two schemas that both apply, with different values')
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
        return stringOf(schema, path)
      case 'number':
      case 'integer':
        return boundedNumber(type, schema, path) ?? type
      default:
        return type
    }
  }

  #array(schema: Schema, path: string, depth: number): string {
    const first = listOf(schema.prefixItems, `${path}.prefixItems`).map((one, i) =>
      this.convert(one, `${path}.prefixItems[${i}]`, depth + 1),
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
    const item = this.#rules.rule(this.convert(schema.items ?? true, `${path}.items`, depth + 1))
    const more = times(`(ws "," ws ${item})`, Math.max(0, min - 1), max === undefined ? undefined : max - 1)
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
      const value = this.convert(extra, `${path}.additionalProperties`, depth + 1)
      const member = this.#rules.rule(`${this.#otherName(names)} ":" ws ${value}`)
      tail = { first: `(${member} (ws "," ws ${member})*)?`, later: `(ws "," ws ${member})*` }
    }
    // From the last property to the first: what may follow a beginning with no member yet, and one that needs a comma.
    for (const [key, value] of properties.reverse()) {
      const at = `${path}.properties.${key}`
      const member = this.#rules.rule(`${literal(key)} ":" ws ${this.convert(value, at, depth + 1)}`)
      const rest = this.#rules.rule(tail.later || '""')
      const first = `${member} ${rest}`
      const later = `ws "," ws ${member} ${rest}`
      if (required.has(key)) tail = { first, later }
      else tail = { first: oneOf([first, this.#rules.rule(tail.first || '""')]), later: oneOf([later, rest]) }
    }
    return this.#rules.rule(`"{" ws ${tail.first} ws "}"`)
  }

  /** A string that is none of these names: a property must not come a second time as an additional one. */
  #otherName(names: readonly string[]): string {
    const inside = names.map((name) => [...JSON.stringify(name).slice(1, -1)])
    return inside.length === 0 ? 'string' : `"\\"" ${this.#otherText(inside)} "\\""`
  }

  #otherText(names: readonly string[][]): string {
    const next = new Map<string, string[][]>()
    for (const [sign, ...rest] of names) if (sign !== undefined) next.set(sign, [...(next.get(sign) ?? []), rest])
    const signs = [...next.keys()].filter((sign) => sign !== '\\' && sign !== '"')
    const others = signs.map((sign) => (sign < '\x80' ? hex(sign) : sign)).join('')
    const choices = [String.raw`[^"\\\x7F\x00-\x1F${others}] char*`]
    for (const sign of signs) choices.push(`${quoted(sign)} ${this.#otherText(next.get(sign) ?? [])}`)
    // Ending here is right where no name ends here.
    const ends = names.some((name) => name.length === 0)
    return this.#rules.rule(ends ? choices.join(' | ') : ['""', ...choices].join(' | '))
  }
}

/** True for lists as well, whose keys are numbers. */
function holds<K extends string>(value: unknown, key: K): value is Record<K, unknown> {
  return value !== null && typeof value === 'object' && Object.hasOwn(value, key)
}
