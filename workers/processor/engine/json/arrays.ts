import type { Builder } from './build.js'
import { refuse } from './gbnf.js'
import { KEYWORDS_OF, numberIn, type Part, partOf, type Schema } from './schema.js'
import type { ArrayWay, Item, Node } from './shape.js'
import { firstItems, itemOf } from './validate.js'

/** Items that a grammar counts. */
const MOST_COUNTED = 2000

/** Items of a kind, of which there have to be some. */
interface Count {
  readonly of: Part
  /** The opposite, where there may not be more. */
  readonly no: Part | undefined
  readonly least: number
  readonly most: number
}

/**
 * The lists that fit all of these. Of a list whose first items are described, all of them come, and no more,
 * unless that is said.
 * @returns undefined where no list can have so many items
 * @throws MeshError BAD_REQUEST in strict mode where that cannot be enforced
 */
export function arrayWay(builder: Builder, atoms: readonly Part[], node: Node): ArrayWay | undefined {
  const about = atoms.filter(({ schema }) => KEYWORDS_OF.array.some((key) => schema[key] !== undefined))
  const bounds = (key: string) => about.map(({ schema }) => numberIn(schema, key)).filter((one) => one !== undefined)
  const most = Math.min(...bounds('maxItems'))
  let min = Math.max(0, ...bounds('minItems'))
  if (min > most) {
    node.why ??= refuse(
      node.path,
      `no list has ${min} items or more and at most ${most}: minItems is more than maxItems`,
    )
    return undefined
  }
  const fewest = about.find(({ schema }) => schema.minItems === min)
  if (min > MOST_COUNTED && fewest) {
    builder.leaveOut(fewest, 'minItems', `at most ${MOST_COUNTED} can be enforced`)
    min = MOST_COUNTED
  }
  const max = most === Number.POSITIVE_INFINITY ? most : Math.max(min, Math.min(most, MOST_COUNTED))
  const isCounted = (schema: Schema) => about.some((part) => countsFor(part, schema))
  for (const part of about) {
    const { schema } = part
    if (schema.unevaluatedItems === undefined || schema.unevaluatedItems === true || !isCounted(schema)) continue
    if (!about.some((one) => coversAll(one, schema)))
      builder.leaveOut(part, 'unevaluatedItems', 'cannot be enforced beside contains, whose items are evaluated')
  }
  const counts = builder.isProof ? [] : about.flatMap((part) => countOf(builder, part))
  const described = Math.max(0, ...about.map(({ schema }) => firstItems(schema)))
  const length = Math.min(described, max)
  builder.budget.spend(node.path, length * (1 + about.length))
  const item = (at: number): Item => itemAt(builder, about, at, counts, node)
  const first = Array.from({ length }, (_, i) => item(i))
  const isOpen = described === 0 || min > described || about.some(({ schema }) => saysMore(schema))
  const unique = about.find(({ schema }) => schema.uniqueItems === true)
  return {
    kind: 'array',
    path: node.path,
    first,
    rest: item(Number.POSITIVE_INFINITY),
    min,
    max: isOpen || builder.isProof ? max : Math.min(max, length),
    isFilled: length > 0 && !builder.isProof && bounds('minItems').length === 0,
    counts: counts.map(({ least, most }) => ({ least, most })),
    distinct: unique !== undefined && max > 1 && !builder.isProof,
    onIndistinct: () => {
      if (unique) builder.leaveOut(unique, 'uniqueItems', 'can be enforced for items of a few named values only')
    },
  }
}

/** True where a schema says something of items behind the first ones. */
function saysMore(schema: Schema): boolean {
  const rest = Array.isArray(schema.items) ? schema.additionalItems : schema.items
  return (rest ?? false) !== false || (schema.unevaluatedItems ?? false) !== false || schema.contains !== undefined
}

function countOf(builder: Builder, part: Part): Count[] {
  const { schema, path } = part
  if (schema.contains === undefined) return []
  const of = partOf(schema.contains, `${path}.contains`)
  const least = numberIn(schema, 'minContains') ?? 1
  const most = numberIn(schema, 'maxContains') ?? Number.POSITIVE_INFINITY
  if (least > MOST_COUNTED) builder.leaveOut(part, 'minContains', `at most ${MOST_COUNTED} can be enforced`)
  if (least === 0 && most === Number.POSITIVE_INFINITY) return []
  if (most === Number.POSITIVE_INFINITY) return [{ of, no: undefined, least: Math.min(least, MOST_COUNTED), most }]
  builder.derived.use({ part: of, by: part, keyword: 'maxContains' })
  const no = builder.derived.part(of, 'none of these', () => ({ not: of.schema }))
  return [{ of, no, least: Math.min(least, MOST_COUNTED), most }]
}

function itemAt(builder: Builder, about: readonly Part[], at: number, counts: readonly Count[], node: Node): Item {
  const evaluated = new Set<Schema>()
  const parts = about.map((part) => {
    if (evaluates(part.schema, at)) for (const owner of [part.schema, ...(part.owners ?? [])]) evaluated.add(owner)
    else if (part.schema.unevaluatedItems !== undefined) for (const owner of part.owners ?? []) evaluated.add(owner)
    return itemOf(part.schema, at, part.path)
  })
  for (const { schema, path } of about) {
    const isOpen = about.some((part) => countsFor(part, schema))
    if (schema.unevaluatedItems !== undefined && !evaluated.has(schema) && !isOpen) {
      parts.push(partOf(schema.unevaluatedItems, `${path}.unevaluatedItems`))
    }
  }
  const path = `${node.path}${at === Number.POSITIVE_INFINITY ? '.items' : `.prefixItems[${at}]`}`
  const made = (more: readonly (Part | undefined)[]) =>
    builder.node([...parts, ...more.filter((one) => one !== undefined)], path, node.depth + 1)
  return {
    any: made(counts.map(({ no }) => no)),
    counting: counts.map(({ of }, i) => made([of, ...counts.map(({ no }, j) => (i === j ? undefined : no))])),
  }
}

/** True where a part evaluates those items that its `contains` describes, for a schema that asks for that. */
function countsFor({ schema, owners = [] }: Part, owner: Schema): boolean {
  return schema.contains !== undefined && (schema === owner || owners.includes(owner))
}

/** True where a part evaluates every item, for a schema that asks for that. */
function coversAll({ schema, owners = [] }: Part, owner: Schema): boolean {
  if (schema !== owner && !owners.includes(owner)) return false
  return evaluates(schema, Number.POSITIVE_INFINITY) || (schema !== owner && schema.unevaluatedItems !== undefined)
}

function evaluates(schema: Schema, at: number): boolean {
  const rest = Array.isArray(schema.items) ? schema.additionalItems : schema.items
  return at < firstItems(schema) || rest !== undefined
}
