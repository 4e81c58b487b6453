import type { Builder } from './build.js'
import { refuse } from './gbnf.js'
import { noteEvaluated, othersOf, unevaluated } from './others.js'
import { entriesOf, entryOf, KEYWORDS_OF, NEVER, numberIn, type Part, partOf, type Schema, textsOf } from './schema.js'
import type { Node, ObjectWay } from './shape.js'

/** Members that a grammar counts. */
const MOST_COUNTED = 2000
/** Signs of a name that an error shows. */
const MOST_SHOWN = 100

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
  const known = new Map<string, readonly Part[]>()
  const partsOf = (name: string) => {
    const parts = known.get(name) ?? partsFor(builder, about, name)
    known.set(name, parts)
    return parts
  }
  const mayCome = (name: string) => partsOf(name).every(({ schema }) => schema !== NEVER)
  // That only described properties come is no more than suggested, where nothing says so.
  const areNeeded = min > (builder.hints ? [...names].filter(mayCome).length : 0)
  const isOpen = described === 0 || written.some(({ schema }) => saysOthers(schema)) || areNeeded
  const asked = { about, names, partsFor: partsOf, areNeeded, path: node.path }
  const classes = isOpen && !builder.isProof ? othersOf(builder, asked) : []
  const members = [...names].map((name) => {
    const parts = partsOf(name)
    const one =
      unnamable(written, name, parts) ?? builder.node(parts, `${node.path}.properties.${name}`, node.depth + 1)
    return { name, node: one, required: required.has(name) }
  })
  return {
    kind: 'object',
    path: node.path,
    members,
    others: classes.map(({ name, values, coarse }) => {
      const value = builder.node(values, `${node.path}.additionalProperties`, node.depth + 1)
      if (coarse !== undefined) builder.coarse.push({ by: coarse, node: value })
      return { name, node: value }
    }),
    min: builder.isProof ? 0 : min,
    max: Math.min(...counts('maxProperties')),
    onUncountable: () => {
      if (fewest) builder.leaveOut(fewest, 'minProperties', 'cannot be enforced where so many names are free')
    },
  }
}

/** The place of a property that has to be there and that nobody describes, where no property may have its name. */
function unnamable(written: readonly Part[], name: string, parts: readonly Part[]): Node | undefined {
  const by = written.find(({ schema }) => textsOf(schema.required).includes(name))
  const isDescribed = written.some(({ schema }) => entryOf(schema, 'properties', name) !== undefined)
  if (by === undefined || isDescribed || !parts.some(({ schema }) => schema === NEVER)) return undefined
  const path = `${by.path}.required`
  const shown = JSON.stringify(name.slice(0, MOST_SHOWN))
  const why = refuse(path, `${shown} is required, but no property may have that name`)
  return { parts: [], path, depth: 0, ways: [], why, alive: false, rule: undefined }
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
