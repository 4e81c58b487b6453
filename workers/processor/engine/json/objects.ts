import type { Builder } from './build.js'
import { otherName } from './names.js'
import { entriesOf, KEYWORDS_OF, NEVER, numberIn, type Part, partOf, type Schema, textsOf } from './schema.js'
import type { Node, ObjectWay } from './shape.js'

/** Members that a grammar counts. */
const MOST_COUNTED = 2000

/** Names that are not described one by one: what is said of them, and of their values. */
interface Others {
  readonly names: readonly Part[]
  readonly values: readonly Part[]
  /** True where the names are only known not to be described. */
  readonly areAny: boolean
}

/**
 * The objects that fit all of these. Where nothing is said of others than the described properties, there are none; where
 * nothing is described, there are any.
 */
export function objectWay(builder: Builder, atoms: readonly Part[], node: Node): ObjectWay {
  const about = atoms.filter(({ schema }) => KEYWORDS_OF.object.some((key) => schema[key] !== undefined))
  const counts = (key: string) => about.map(({ schema }) => numberIn(schema, key)).filter((one) => one !== undefined)
  const required = new Set(about.flatMap(({ schema }) => textsOf(schema.required)))
  const written = about.filter(({ schema }) => !builder.derived.has(schema))
  const names = new Set(written.flatMap(({ schema }) => entriesOf(schema, 'properties').map(([name]) => name)))
  const described = names.size
  for (const name of required) names.add(name)
  for (const { schema } of about) for (const [name] of entriesOf(schema, 'properties')) names.add(name)
  let min = Math.max(0, ...counts('minProperties'))
  const fewest = about.find(({ schema }) => schema.minProperties === min)
  if (min > MOST_COUNTED && fewest) {
    builder.leaveOut(fewest, 'minProperties', `at most ${MOST_COUNTED} can be enforced`)
    min = MOST_COUNTED
  }
  const isOpen = described === 0 || written.some(({ schema }) => saysOthers(schema)) || min > names.size
  const classes = isOpen && !builder.isProof ? othersOf(builder, about, names, node.path) : []
  const members = [...names].map((name) => ({
    name,
    node: builder.node(partsFor(builder, about, name), `${node.path}.properties.${name}`, node.depth + 1),
    required: required.has(name),
  }))
  return {
    kind: 'object',
    path: node.path,
    members,
    others: classes.map(({ name, values }) => ({
      name,
      node: builder.node(values, `${node.path}.additionalProperties`, node.depth + 1),
    })),
    min: builder.isProof ? 0 : min,
    max: Math.min(...counts('maxProperties')),
    onUncountable: () => {
      if (fewest) builder.leaveOut(fewest, 'minProperties', 'cannot be enforced where so many names are free')
    },
  }
}

/** True where a schema asks for properties that it does not describe one by one. */
function saysOthers(schema: Schema): boolean {
  const { additionalProperties = false, unevaluatedProperties = false, patternProperties, propertyNames } = schema
  return (
    additionalProperties !== false ||
    unevaluatedProperties !== false ||
    patternProperties !== undefined ||
    propertyNames !== undefined
  )
}

/** All that is said of one property. */
function partsFor(builder: Builder, about: readonly Part[], name: string): Part[] {
  const parts: Part[] = []
  const evaluated = new Set<Schema>()
  for (const part of about) {
    const { schema, path } = part
    builder.budget.spend(path, 1)
    const own = builder.validator.partsFor(name, schema, path)
    parts.push(...own)
    if (own.length > 0) noteEvaluated(part, evaluated, true)
    else if (schema.unevaluatedProperties !== undefined) noteEvaluated(part, evaluated, false)
    if (schema.propertyNames === undefined) continue
    const fits = builder.validator.fits(name, partOf(schema.propertyNames, `${path}.propertyNames`))
    if (fits === false) parts.push({ schema: NEVER, path: `${path}.propertyNames` })
    if (fits === undefined) builder.leaveOut(part, 'propertyNames')
  }
  return [...parts, ...unevaluated(about, evaluated)]
}

/** Notes for whom a schema evaluates a property: those in whose place it applies, and itself. */
function noteEvaluated({ schema, owners = [] }: Part, evaluated: Set<Schema>, itself: boolean): void {
  for (const owner of owners) evaluated.add(owner)
  if (itself) evaluated.add(schema)
}

function unevaluated(about: readonly Part[], evaluated: ReadonlySet<Schema>): Part[] {
  return about
    .filter(({ schema }) => schema.unevaluatedProperties !== undefined && !evaluated.has(schema))
    .map(({ schema, path }) => partOf(schema.unevaluatedProperties, `${path}.unevaluatedProperties`))
}

/** Other properties than the named ones, by what is said of them. Adds the names that turn out to be a few. */
function othersOf(
  builder: Builder,
  about: readonly Part[],
  names: Set<string>,
  path: string,
): { name: string; values: readonly Part[] }[] {
  const rules = about
    .filter(({ schema }) => schema.propertyNames !== undefined)
    .map((part) => partOf(part.schema.propertyNames, `${part.path}.propertyNames`))
  const patterns = new Map<string, Part>()
  for (const part of about)
    for (const [pattern] of entriesOf(part.schema, 'patternProperties')) patterns.set(pattern, part)
  builder.budget.spend(path, about.length * (1 + patterns.size * patterns.size))
  const classes: Others[] = [...patterns].map(([pattern, part]) => ({
    names: [...rules, builder.derived.part(part, `pattern ${pattern}`, () => ({ type: 'string', pattern }))],
    values: valuesOfOthers(about, pattern),
    areAny: false,
  }))
  const isFree = patterns.size === 0 || about.some(({ schema }) => (schema.additionalProperties ?? false) !== false)
  if (isFree) classes.push({ names: rules, values: valuesOfOthers(about), areAny: rules.length === 0 })
  const found: { name: string; values: readonly Part[] }[] = []
  for (const { names: of, values, areAny } of classes) {
    if (values.some(({ schema }) => schema === NEVER)) continue
    if (areAny) {
      found.push({ name: otherName(builder.rules, [...names], path), values })
      continue
    }
    const texts = builder.textsOf(of, path)
    for (const name of texts.names) names.add(name)
    if (texts.expressions.length === 0) continue
    // A name that is described may come from here as well: its value then fits both.
    const known = [...names].filter((name) => of.every((part) => builder.validator.fits(name, part) !== false))
    const both = [...values, ...known.flatMap((name) => partsFor(builder, about, name))]
    for (const name of texts.expressions) found.push({ name, values: both })
  }
  return found
}

/** What is said of all names that match a pattern, or, without one, of those that match none. Names may match others, too. */
function valuesOfOthers(about: readonly Part[], pattern?: string): Part[] {
  const parts: Part[] = []
  const evaluated = new Set<Schema>()
  for (const part of about) {
    const { schema, path } = part
    let isMatched = false
    for (const [other, one] of entriesOf(schema, 'patternProperties')) {
      if (pattern !== undefined && pattern !== other && areApart(pattern, other)) continue
      parts.push(partOf(one, `${path}.patternProperties.${other}`))
      if (pattern === other) isMatched = true
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

/** True where two patterns ask for other beginnings. */
function areApart(a: string, b: string): boolean {
  const [one, other] = [beginning(a), beginning(b)]
  const length = Math.min(one.length, other.length)
  return one.slice(0, length) !== other.slice(0, length)
}

/** The signs that whatever matches begins with. */
function beginning(pattern: string): string {
  if (pattern.includes('|')) return ''
  const [, signs = '', next = ''] = /^\^([A-Za-z0-9_ -]*)(.?)/s.exec(pattern) ?? []
  return ['*', '?', '{'].includes(next) ? signs.slice(0, -1) : signs
}
