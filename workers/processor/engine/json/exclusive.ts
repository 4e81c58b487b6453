import { commonTypes, type Expander } from './expand.js'
import type { SchemaBudget } from './limits.js'
import { entryOf, isObject, type Part, partsOf, type Schema, TYPES, textsOf, typeOf } from './schema.js'
import type { Source } from './source.js'

/** What can be told of a schema at a glance: all that applies whatever is chosen. */
interface Outline {
  readonly types: ReadonlySet<string>
  /** The values that it names; undefined where it names none. */
  readonly values: ReadonlySet<string> | undefined
  readonly parts: readonly Part[]
  readonly required: ReadonlySet<string>
}

/** Finds out at a glance that no value fits two schemas of a `oneOf`: by types, by named values, or by a tag. */
export class Exclusivity {
  readonly #source: Source
  readonly #budget: SchemaBudget
  readonly #known = new Map<Schema, boolean>()
  readonly #outlines = new Map<Schema, Outline>()

  constructor(source: Source, budget: SchemaBudget) {
    this.#source = source
    this.#budget = budget
  }

  isExclusive(part: Part, expander: Expander): boolean {
    const known = this.#known.get(part.schema)
    if (known !== undefined) return known
    const found = this.#find(part, expander)
    this.#known.set(part.schema, found)
    return found
  }

  #find({ schema, path }: Part, expander: Expander): boolean {
    const all = partsOf(schema.oneOf, `${path}.oneOf`).map((one) => this.#outline(one, expander))
    const own = new Set<string>(
      commonTypes([{ schema, path }]).flatMap((type) => (type === 'number' ? [type, 'integer'] : [type])),
    )
    return TYPES.filter((type) => own.has(type)).every((type) => {
      const those = all.filter(({ types }) => types.has(type))
      return (
        those.length < 2 ||
        areApart(those.map(({ values }) => values)) ||
        (type === 'object' && this.#haveTag(those, expander))
      )
    })
  }

  /** True where a property that all require has a value of its own in each. */
  #haveTag(all: readonly Outline[], expander: Expander): boolean {
    const [first] = all
    return [...(first?.required ?? [])].some((name) => {
      if (!all.every(({ required }) => required.has(name))) return false
      this.#budget.spend(first?.parts[0]?.path ?? '', all.length)
      return areApart(all.map((one) => this.#tagOf(one, name, expander)))
    })
  }

  #tagOf({ parts }: Outline, name: string, expander: Expander): ReadonlySet<string> | undefined {
    for (const { schema } of parts) {
      const given = entryOf(schema, 'properties', name)
      const values = isObject(given) ? expander.valuesOf(given) : undefined
      if (values !== undefined) return values
    }
    return undefined
  }

  #outline(part: Part, expander: Expander): Outline {
    const known = this.#outlines.get(part.schema)
    if (known !== undefined) return known
    const parts: Part[] = [part]
    for (const { schema, path } of parts) {
      this.#budget.spend(path, 1)
      const target = this.#source.target(schema)
      if (target !== undefined) parts.push(target)
      parts.push(...partsOf(schema.allOf, `${path}.allOf`))
    }
    const values = parts.map(({ schema }) => expander.valuesOf(schema)).find((one) => one !== undefined)
    const types = values
      ? [...values].map((text) => typeOf(JSON.parse(text)))
      : commonTypes(parts).flatMap((type) => (type === 'number' ? [type, 'integer'] : [type]))
    const required = new Set(parts.flatMap(({ schema }) => textsOf(schema.required)))
    const outline = { types: new Set<string>(types), values, parts, required }
    this.#outlines.set(part.schema, outline)
    return outline
  }
}

/** True where all are there and none has a value of another. */
function areApart(sets: readonly (ReadonlySet<string> | undefined)[]): boolean {
  const all = new Set<string>()
  for (const set of sets) {
    if (set === undefined) return false
    for (const one of set) {
      if (all.has(one)) return false
      all.add(one)
    }
  }
  return true
}
