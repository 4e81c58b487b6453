import { checkForms, subschemas } from './forms.js'
import { refuse } from './gbnf.js'
import { SCHEMA_LIMITS, type SchemaBudget } from './limits.js'
import { isObject, NEVER, type Part, partOf, type Schema } from './schema.js'

/** What a reference is looked up in: a schema with an id of its own, or the whole. */
interface Resource {
  readonly root: Schema
  readonly path: string
  readonly uri: string
}

interface Found extends Part {
  readonly resource: Resource
}

/** A schema as it was sent: well-formed in all that can apply, with the targets of its references. */
export class Source {
  readonly root: Part
  readonly #budget: SchemaBudget
  readonly #whole: Resource
  readonly #targets = new Map<Schema, Part>()
  readonly #seen = new Map<Schema, string>()
  /** By absolute or written URI, and by URI and anchor; made when the first reference needs it. */
  #named: Map<string, Found> | undefined

  /**
   * @param param where the schema stands in the request, for errors
   * @throws MeshError BAD_REQUEST naming what is malformed, nested too deep, refers to nothing, or applies to itself
   */
  constructor(schema: Schema, param: string, budget: SchemaBudget) {
    this.#budget = budget
    this.root = { schema, path: param }
    this.#whole = { root: schema, path: param, uri: uriOf(schema, '') }
    this.#read()
    this.#endCircles()
  }

  /** What a schema's `$ref` leads to. */
  target(schema: Schema): Part | undefined {
    return this.#targets.get(schema)
  }

  #read(): void {
    const open: { part: Found; depth: number }[] = [{ part: { ...this.root, resource: this.#whole }, depth: 0 }]
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      const { part, depth } = one
      if (this.#seen.has(part.schema)) continue
      this.#seen.set(part.schema, part.path)
      this.#budget.spend(part.path, 1 + Object.keys(part.schema).length)
      if (depth > SCHEMA_LIMITS.nested) {
        throw refuse(part.path, `nested more than ${SCHEMA_LIMITS.nested} deep`, { limit: SCHEMA_LIMITS.nested })
      }
      checkForms(part.schema, part.path)
      const resource = resourceIn(part.schema, part.path, part.resource)
      const ref = part.schema.$ref ?? part.schema.$dynamicRef
      if (typeof ref === 'string') {
        const found = this.#resolve(
          ref,
          resource,
          `${part.path}.${part.schema.$ref === undefined ? '$dynamicRef' : '$ref'}`,
        )
        this.#targets.set(part.schema, found)
        open.push({ part: found, depth: 0 })
      }
      const inside: typeof open = []
      for (const { given, path } of subschemas(part.schema, part.path)) {
        if (isObject(given)) inside.push({ part: { schema: given, path, resource }, depth: depth + 1 })
      }
      open.push(...inside.reverse())
    }
  }

  #resolve(ref: string, from: Resource, path: string): Found {
    const [uri = '', fragment = ''] = splitOnce(ref, '#')
    const found = uri === '' ? this.#inResource(fragment, from) : this.#elsewhere(uri, fragment, from)
    if (found === undefined && uri !== '') {
      throw refuse(path, 'only references into the schema itself are followed, such as #/$defs/name')
    }
    // Many who give ids within a schema still mean the whole.
    const target = found ?? (from === this.#whole ? undefined : this.#inResource(fragment, this.#whole))
    if (target === undefined) throw refuse(path, `${ref} does not exist`)
    return target
  }

  #elsewhere(uri: string, fragment: string, from: Resource): Found | undefined {
    const named = this.#names()
    const found = named.get(uri) ?? named.get(absolute(uri, from.uri))
    return found && this.#inResource(fragment, found.resource)
  }

  #inResource(fragment: string, resource: Resource): Found | undefined {
    if (fragment !== '' && !fragment.startsWith('/')) return this.#names().get(`${resource.uri}#${fragment}`)
    let target: unknown = resource.root
    let within = resource
    let path = resource.path
    for (const part of fragment.split('/').slice(1)) {
      const key = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~')
      target = holds(target, key) ? target[key] : undefined
      path += `.${part}`
      if (isObject(target)) within = resourceIn(target, path, within)
    }
    if (!isObject(target) && typeof target !== 'boolean') return undefined
    return { ...partOf(target, path), resource: within }
  }

  /** Everything with an id or an anchor, wherever schemas stand. */
  #names(): Map<string, Found> {
    if (this.#named) return this.#named
    const named = new Map<string, Found>()
    this.#named = named
    const seen = new Set<Schema>()
    const open: Found[] = [{ ...this.root, resource: this.#whole }]
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      const { schema, path } = one
      if (seen.has(schema)) continue
      seen.add(schema)
      this.#budget.spend(path, 1)
      const resource = resourceIn(schema, path, one.resource)
      const found = { schema, path, resource }
      if (resource.root === schema) {
        named.set(resource.uri, found)
        if (typeof schema.$id === 'string') named.set(schema.$id, found)
      }
      for (const anchor of [schema.$anchor, schema.$dynamicAnchor]) {
        if (typeof anchor === 'string') named.set(`${resource.uri}#${anchor}`, found)
      }
      if (typeof schema.$id === 'string' && schema.$id.startsWith('#')) named.set(`${resource.uri}${schema.$id}`, found)
      const inside = [schema.$defs, schema.definitions].flatMap((defs) => (isObject(defs) ? Object.entries(defs) : []))
      for (const [name, given] of inside)
        if (isObject(given)) open.push({ schema: given, path: `${path}.$defs.${name}`, resource })
      for (const { given, path: at } of subschemas(schema, path)) {
        if (isObject(given)) open.push({ schema: given, path: at, resource })
      }
    }
    return named
  }

  /** A schema that applies itself to the same value has no end; as one of several choices it is none. */
  #endCircles(): void {
    const done = new Map<Schema, boolean>()
    for (const [start, startPath] of this.#seen) {
      const way: { schema: Schema; path: string; keyword: string; left: (Part & { keyword: string })[] }[] = []
      const enter = ({ schema, path, keyword }: Part & { keyword: string }) => {
        done.set(schema, false)
        const left = [...subschemas(schema, path)].flatMap(({ given, inPlace, ...at }) =>
          inPlace && isObject(given) ? [{ schema: given, ...at }] : [],
        )
        const target = this.#targets.get(schema)
        if (target !== undefined) left.push({ ...target, keyword: '$ref' })
        way.push({ schema, path, keyword, left })
      }
      if (!done.has(start)) enter({ schema: start, path: startPath, keyword: '' })
      for (let here = way.at(-1); here !== undefined; here = way.at(-1)) {
        const next = here.left.pop()
        if (next === undefined) {
          done.set(here.schema, true)
          way.pop()
        } else if (!done.has(next.schema)) enter(next)
        else if (done.get(next.schema) === false) {
          const circle = way
            .slice(way.findIndex(({ schema }) => schema === next.schema) + 1)
            .map(({ keyword }) => keyword)
          const isChoice = circle.some((keyword) => keyword === 'anyOf' || keyword === 'oneOf')
          if (!isChoice || !circle.every((keyword) => ['anyOf', 'oneOf', 'allOf', '$ref'].includes(keyword))) {
            throw refuse(here.path, 'applies to itself without end')
          }
          this.#targets.set(here.schema, { schema: NEVER, path: here.path })
        }
      }
    }
  }
}

function resourceIn(schema: Schema, path: string, outer: Resource): Resource {
  if (schema === outer.root || typeof schema.$id !== 'string' || schema.$id.startsWith('#')) return outer
  return { root: schema, path, uri: uriOf(schema, outer.uri) }
}

function uriOf(schema: Schema, base: string): string {
  return typeof schema.$id === 'string' ? (splitOnce(absolute(schema.$id, base), '#')[0] ?? '') : base
}

function absolute(uri: string, base: string): string {
  return URL.canParse(uri, base === '' ? undefined : base) ? new URL(uri, base === '' ? undefined : base).href : uri
}

function splitOnce(text: string, sign: string): string[] {
  const at = text.indexOf(sign)
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)]
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** True for lists as well, whose keys are numbers. */
function holds<K extends string>(value: unknown, key: K): value is Record<K, unknown> {
  return value !== null && typeof value === 'object' && Object.hasOwn(value, key)
}
