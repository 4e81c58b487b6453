import type { Builder } from './build.js'
import type { Keyword } from './expand.js'
import { otherName } from './names.js'
import { areApart, classesOf, noneOf } from './overlaps.js'
import { entriesOf, NEVER, type Part, partOf, type Schema } from './schema.js'

/** Members of objects that are not described one by one: their names by classes, and what is said of the values of each. */

/** Members whose names are of one class. */
export interface Others {
  /** A grammar's expression. */
  readonly name: string
  readonly values: readonly Part[]
  /** Who says so, where the values may be fewer than are allowed, because names could not be told apart. */
  readonly coarse?: Keyword
}

/** What is asked for all members of an object. */
export interface Asked {
  readonly about: readonly Part[]
  /** Names that are described, each with all that is said of it. Names that turn out to be a few are added. */
  readonly names: Set<string>
  readonly partsFor: (name: string) => readonly Part[]
  /** True where there have to be more members than the described ones. */
  readonly areNeeded: boolean
  readonly path: string
}

/** Other members than the described ones. Where the names of classes cannot be told apart in little time, they may overlap. */
export function othersOf(builder: Builder, asked: Asked): Others[] {
  const { about, names, path } = asked
  const patterns = new Map<string, Part>()
  for (const part of about)
    for (const [pattern] of entriesOf(part.schema, 'patternProperties')) patterns.set(pattern, part)
  const rules = about
    .filter(({ schema }) => schema.propertyNames !== undefined)
    .map((part) => partOf(part.schema.propertyNames, `${part.path}.propertyNames`))
  builder.budget.spend(path, about.length * (1 + patterns.size * patterns.size))
  if (patterns.size === 0 && rules.length === 0) {
    const values = valuesOf(about, [])
    return isNever(values) ? [] : [{ name: otherName(builder.rules, [...names], path), values }]
  }
  const all = new Names(builder, asked, patterns, rules)
  const found = builder.budget.attempt(() => all.apart())
  if (found === undefined) return builder.isLoose ? anyOthers(builder, asked) : all.overlapping()
  for (const name of found.names) names.add(name)
  return found.others
}

/** What says something of names that are not described, or of their values. */
const OF_OTHERS = ['patternProperties', 'additionalProperties', 'unevaluatedProperties', 'propertyNames']

/** Any other members: what is said of them is left out. */
function anyOthers(builder: Builder, { about, names, path }: Asked): Others[] {
  for (const part of about)
    for (const keyword of OF_OTHERS) if (part.schema[keyword] !== undefined) builder.leaveOut(part, keyword)
  return [{ name: otherName(builder.rules, [...names], path), values: [] }]
}

class Names {
  readonly #builder: Builder
  readonly #asked: Asked
  /** Each with who asks for it. */
  readonly #patterns: ReadonlyMap<string, Part>
  /** What is asked of all names. */
  readonly #rules: readonly Part[]

  constructor(builder: Builder, asked: Asked, patterns: ReadonlyMap<string, Part>, rules: readonly Part[]) {
    this.#builder = builder
    this.#asked = asked
    this.#patterns = patterns
    this.#rules = rules
  }

  /** By classes of names, each of which is in one class. @returns undefined where that cannot be said */
  apart(): { others: Others[]; names: ReadonlySet<string> } | undefined {
    const { path, areNeeded } = this.#asked
    const spend = (steps: number) => this.#builder.budget.spendOnAutomata(path, steps)
    const patterns = [...this.#patterns.keys()]
    const classes = classesOf(patterns, spend)
    if (classes === undefined) return undefined
    const names = new Set(this.#asked.names)
    const others = classes.flatMap(({ like, unlike }) => this.#members(like, unlike, names))
    // Where nobody asks for names that match nothing, they come where nothing else can.
    const isNeeded = areNeeded && (others.length === 0 || !this.#builder.hints)
    if (this.#isFree() || isNeeded) others.push(...this.#members([], patterns, names))
    return { others, names }
  }

  #isFree(): boolean {
    const says = ({ schema: { additionalProperties = false, unevaluatedProperties = false } }: Part) =>
      additionalProperties !== false || unevaluatedProperties !== false
    return this.#patterns.size === 0 || this.#asked.about.some(says)
  }

  /** Those whose names match some patterns and none of others. */
  #members(like: readonly string[], unlike: readonly string[], names: Set<string>): Others[] {
    const { about, path } = this.#asked
    const values = valuesOf(about, like)
    if (isNever(values)) return []
    const of = [...this.#rules, ...like.map((pattern) => this.#named(pattern, pattern))]
    if (unlike.length > 0) of.push(this.#named(noneOf(unlike), unlike[0]))
    if (this.#rules.length > 0) for (const name of this.#builder.textsOf(of, path).names) names.add(name)
    const [by] = of
    // A name that is described comes in its turn alone.
    const label = `other names ${[...names].join('\n')}`
    if (by !== undefined && names.size > 0)
      of.push(this.#builder.derived.part(by, label, () => ({ type: 'string' }), new Set(names)))
    return this.#builder.textsOf(of, path).expressions.map((name) => ({ name, values }))
  }

  /** @param from the pattern that this one follows from */
  #named(pattern: string, from: string | undefined): Part {
    const owner = (from === undefined ? undefined : this.#patterns.get(from)) ?? partOf(true, this.#asked.path)
    return this.#builder.derived.part(owner, `pattern ${pattern}`, () => ({ type: 'string', pattern }))
  }

  /** By single patterns: the values of a name fit all patterns that it may match, and what is said of names that it may be. */
  overlapping(): Others[] {
    const { about, names, path } = this.#asked
    const builder = this.#builder
    const keyword = this.#patterns.size === 0 ? 'propertyNames' : 'patternProperties'
    const [asking] = about.filter(({ schema }) => schema[keyword] !== undefined)
    const coarse = asking === undefined ? {} : { coarse: { ...asking, keyword } }
    const classes = [...this.#patterns.keys()].map((pattern) => ({
      names: [...this.#rules, this.#named(pattern, pattern)],
      values: valuesOf(about, [pattern], (other) => !areApart(pattern, other)),
      exact: valuesOf(about, [pattern]),
    }))
    if (this.#isFree()) {
      const values = valuesOf(about, [], () => true)
      classes.push({ names: [...this.#rules], values, exact: valuesOf(about, []) })
    }
    const found: Others[] = []
    for (const { names: of, values, exact } of classes) {
      if (isNever(exact)) continue
      if (of.length === 0) {
        found.push({ name: otherName(builder.rules, [...names], path), values, ...coarse })
        continue
      }
      const texts = builder.textsOf(of, path)
      for (const name of texts.names) names.add(name)
      if (texts.expressions.length === 0) continue
      const known = [...names].filter((name) => of.every((part) => builder.validator.fits(name, part) !== false))
      const all = [...values, ...known.flatMap((name) => this.#asked.partsFor(name))]
      for (const name of texts.expressions) found.push({ name, values: all, ...coarse })
    }
    return found
  }
}

function isNever(values: readonly Part[]): boolean {
  return values.some(({ schema }) => schema === NEVER)
}

/**
 * What is said of the values of names that match some patterns.
 * @param mayMatch true for patterns that such a name may match as well, and that apply in any case
 */
function valuesOf(about: readonly Part[], like: readonly string[], mayMatch = (_: string) => false): Part[] {
  const parts: Part[] = []
  const evaluated = new Set<Schema>()
  for (const part of about) {
    const { schema, path } = part
    let isMatched = false
    for (const [pattern, one] of entriesOf(schema, 'patternProperties')) {
      const isSure = like.includes(pattern)
      if (!isSure && !mayMatch(pattern)) continue
      parts.push(partOf(one, `${path}.patternProperties.${pattern}`))
      if (isSure) isMatched = true
    }
    if (!isMatched && schema.additionalProperties !== undefined) {
      parts.push(partOf(schema.additionalProperties, `${path}.additionalProperties`))
      isMatched = true
    }
    if (isMatched) noteEvaluated(part, evaluated, true)
    else if (schema.unevaluatedProperties !== undefined) noteEvaluated(part, evaluated, false)
  }
  return [...parts, ...unevaluated(about, evaluated)]
}

/** Notes for whom a schema evaluates a property: those in whose place it applies, and itself. */
export function noteEvaluated({ schema, owners = [] }: Part, evaluated: Set<Schema>, itself: boolean): void {
  for (const owner of owners) evaluated.add(owner)
  if (itself) evaluated.add(schema)
}

/** What is said of a property by those that look at what no other has evaluated. */
export function unevaluated(about: readonly Part[], evaluated: ReadonlySet<Schema>): Part[] {
  return about
    .filter(({ schema }) => schema.unevaluatedProperties !== undefined && !evaluated.has(schema))
    .map(({ schema, path }) => partOf(schema.unevaluatedProperties, `${path}.unevaluatedProperties`))
}
