import { numberFits, stringFits } from './fits.js'
import { assertionsOf } from './forms.js'
import type { SchemaBudget } from './limits.js'
import {
  canonical,
  entriesOf,
  entryOf,
  includesType,
  isObject,
  listOf,
  namedTypes,
  numberIn,
  type Part,
  partOf,
  partsOf,
  type Schema,
  textsOf,
  typeOf,
} from './schema.js'
import type { Source } from './source.js'

/** Undefined: it cannot be said. */
type Verdict = boolean | undefined

/** Says whether values that are there already fit schemas: those of `enum` and `const`, and names of properties. */
export class Validator {
  readonly #source: Source
  readonly #budget: SchemaBudget
  /** Values of lists of choices, as they are compared. */
  readonly #choices = new Map<Schema, ReadonlySet<string>>()

  constructor(source: Source, budget: SchemaBudget) {
    this.#source = source
    this.#budget = budget
  }

  fits(value: unknown, part: Part): Verdict {
    const own = this.fitsOwn(value, part)
    return own === false ? false : both(own, this.#inPlace(value, part))
  }

  /** Without what applies in place: `$ref`, `allOf` and the like. */
  fitsOwn(value: unknown, { schema, path, excluded }: Part): Verdict {
    this.#budget.spend(path, 1)
    const type = typeOf(value)
    const types = namedTypes(schema)
    if (types !== undefined && !includesType(types, type)) return false
    if (schema.enum !== undefined || schema.const !== undefined) {
      if (!this.choices(schema).has(canonical(value))) return false
    }
    switch (type) {
      case 'object':
        return isObject(value) ? this.#object(value, { schema, path }) : false
      case 'array':
        return this.#array(listOf(value), { schema, path })
      case 'string':
        if (excluded?.has(String(value)) || !stringFits(String(value), [schema])) return false
        return schema.format === undefined ? true : undefined
      case 'number':
      case 'integer':
        return numberFits(Number(value), [schema])
      default:
        return true
    }
  }

  /** What `enum` and `const` of one schema both name, each in the form in which equal values are the same. */
  choices(schema: Schema): ReadonlySet<string> {
    const known = this.#choices.get(schema)
    if (known !== undefined) return known
    const named = schema.const === undefined ? undefined : canonical(schema.const)
    const listed = schema.enum === undefined ? undefined : listOf(schema.enum).map(canonical)
    const choices = new Set(
      listed === undefined ? [named ?? ''] : listed.filter((one) => named === undefined || one === named),
    )
    this.#choices.set(schema, choices)
    return choices
  }

  #inPlace(value: unknown, part: Part): Verdict {
    const { schema, path } = part
    const all: (() => Verdict)[] = []
    const target = this.#source.target(schema)
    if (target !== undefined) all.push(() => this.fits(value, target))
    for (const one of partsOf(schema.allOf, `${path}.allOf`)) all.push(() => this.fits(value, one))
    if (schema.anyOf !== undefined) all.push(() => this.#some(value, partsOf(schema.anyOf, `${path}.anyOf`)))
    if (schema.oneOf !== undefined) all.push(() => this.#one(value, partsOf(schema.oneOf, `${path}.oneOf`)))
    if (schema.not !== undefined) all.push(() => opposite(this.fits(value, partOf(schema.not, `${path}.not`))))
    if (schema.if !== undefined) all.push(() => this.#conditional(value, part))
    if (isObject(value)) {
      for (const key of ['dependentSchemas', 'dependencies']) {
        for (const [name, one] of entriesOf(schema, key)) {
          if (!Object.hasOwn(value, name)) continue
          if (Array.isArray(one)) all.push(() => textsOf(one).every((needed) => Object.hasOwn(value, needed)))
          else all.push(() => this.fits(value, partOf(one, `${path}.${key}.${name}`)))
        }
      }
    }
    return every(all)
  }

  #conditional(value: unknown, { schema, path }: Part): Verdict {
    const then = partOf(schema.then, `${path}.then`)
    const otherwise = partOf(schema.else, `${path}.else`)
    const holds = this.fits(value, partOf(schema.if, `${path}.if`))
    if (holds === undefined) {
      const [a, b] = [this.fits(value, then), this.fits(value, otherwise)]
      return a === b ? a : undefined
    }
    return this.fits(value, holds ? then : otherwise)
  }

  #some(value: unknown, parts: readonly Part[]): Verdict {
    return opposite(every(parts.map((one) => () => opposite(this.fits(value, one)))))
  }

  #one(value: unknown, parts: readonly Part[]): Verdict {
    const verdicts = parts.map((one) => this.fits(value, one))
    const sure = verdicts.filter((one) => one === true).length
    if (sure > 1) return false
    return verdicts.includes(undefined) ? undefined : sure === 1
  }

  #object(value: Record<string, unknown>, { schema, path }: Part): Verdict {
    const names = Object.keys(value)
    this.#budget.spend(path, names.length)
    if (textsOf(schema.required).some((name) => !Object.hasOwn(value, name))) return false
    if (names.length < (numberIn(schema, 'minProperties') ?? 0)) return false
    if (names.length > (numberIn(schema, 'maxProperties') ?? Number.POSITIVE_INFINITY)) return false
    for (const [name, needed] of entriesOf(schema, 'dependentRequired')) {
      if (Object.hasOwn(value, name) && textsOf(needed).some((one) => !Object.hasOwn(value, one))) return false
    }
    const all = names.flatMap((name) =>
      this.partsFor(name, schema, path).map((one) => () => this.fits(value[name], one)),
    )
    if (schema.propertyNames !== undefined) {
      const part = partOf(schema.propertyNames, `${path}.propertyNames`)
      all.push(...names.map((name) => () => this.fits(name, part)))
    }
    if (schema.unevaluatedProperties !== undefined) all.push(() => undefined)
    return every(all)
  }

  /** What one schema says of the property with this name. */
  partsFor(name: string, schema: Schema, path: string): Part[] {
    const parts: Part[] = []
    const own = entryOf(schema, 'properties', name)
    if (own !== undefined) parts.push(partOf(own, `${path}.properties.${name}`))
    for (const [pattern, one] of entriesOf(schema, 'patternProperties')) {
      this.#budget.spend(path, 1)
      if (stringFits(name, [{ pattern }])) parts.push(partOf(one, `${path}.patternProperties.${pattern}`))
    }
    if (parts.length === 0 && schema.additionalProperties !== undefined) {
      parts.push(partOf(schema.additionalProperties, `${path}.additionalProperties`))
    }
    return parts
  }

  #array(value: readonly unknown[], { schema, path }: Part): Verdict {
    this.#budget.spend(path, value.length)
    if (value.length < (numberIn(schema, 'minItems') ?? 0)) return false
    if (value.length > (numberIn(schema, 'maxItems') ?? Number.POSITIVE_INFINITY)) return false
    if (schema.uniqueItems === true && new Set(value.map(canonical)).size < value.length) return false
    const all = value.map((one, i) => () => this.fits(one, itemOf(schema, i, path)))
    if (schema.contains !== undefined) all.push(() => this.#contains(value, { schema, path }))
    if (schema.unevaluatedItems !== undefined) all.push(() => undefined)
    return every(all)
  }

  #contains(value: readonly unknown[], { schema, path }: Part): Verdict {
    const part = partOf(schema.contains, `${path}.contains`)
    const verdicts = value.map((one) => this.fits(one, part))
    const sure = verdicts.filter((one) => one === true).length
    const open = verdicts.filter((one) => one === undefined).length
    const least = numberIn(schema, 'minContains') ?? 1
    const most = numberIn(schema, 'maxContains') ?? Number.POSITIVE_INFINITY
    if (sure + open < least || sure > most) return false
    return sure >= least && sure + open <= most ? true : undefined
  }
}

/** What a schema says of the item at a place; of those behind the first ones where the place is beyond them. */
export function itemOf(schema: Schema, at: number, path: string): Part {
  const key = Array.isArray(schema.items) ? 'items' : 'prefixItems'
  const first = listOf(schema[key])
  if (at < first.length) return partOf(first[at], `${path}.${key}[${at}]`)
  const rest = Array.isArray(schema.items) ? 'additionalItems' : 'items'
  return partOf(schema[rest], `${path}.${rest}`)
}

/** How many items a schema describes one by one. */
export function firstItems(schema: Schema): number {
  return listOf(Array.isArray(schema.items) ? schema.items : schema.prefixItems).length
}

/** True where a schema lets everything through. */
export function saysNothing({ schema, excluded }: Part): boolean {
  return excluded === undefined && assertionsOf(schema).length === 0
}

function every(all: readonly (() => Verdict)[]): Verdict {
  let verdict: Verdict = true
  for (const one of all) {
    verdict = both(verdict, one())
    if (verdict === false) return false
  }
  return verdict
}

function both(a: Verdict, b: Verdict): Verdict {
  return a === false || b === false ? false : a === undefined || b === undefined ? undefined : true
}

function opposite(verdict: Verdict): Verdict {
  return verdict === undefined ? undefined : !verdict
}
