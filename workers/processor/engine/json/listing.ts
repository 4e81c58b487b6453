import { refuse } from './gbnf.js'
import type { GrammarRules } from './rules.js'
import type { ArrayWay, Item, Node } from './shape.js'

/** Lists of which some items count: each place in such a list, with what has been counted until there, is a rule. */

/** Places that one list may have. */
const MOST_PLACES = 20_000
const COMMA = 'ws "," ws '

interface Places {
  /** The last place; where lists have no end, the one that comes again and again. */
  readonly last: number
  /** What can have been counted, in an order in which more comes first. */
  readonly counted: readonly (readonly number[])[]
}

interface Step {
  readonly node: Node
  readonly at: number
  readonly counted: readonly number[]
}

/** How many items come at least. */
export function leastItems({ min, max, first, isFilled }: ArrayWay): number {
  return isFilled ? Math.max(min, Math.min(first.length, max)) : min
}

/** True where a list with all that has to count can be made of nodes that are alive. */
export function canFill(way: ArrayWay): boolean {
  return alivePlaces(way).has(
    keyOf(
      0,
      way.counts.map(() => 0),
    ),
  )
}

/** The expression for such a list, without its brackets. */
export function countedItems(rules: GrammarRules, way: ArrayWay, ref: (node: Node) => string): string {
  const alive = alivePlaces(way)
  rules.budget.spend(way.path, alive.size)
  const names = new Map([...alive.keys()].map((key) => [key, rules.reserve()]))
  for (const [key, { at, counted }] of alive) {
    const choices = stepsFrom(way, placesOf(way).last, at, counted).flatMap((step) => {
      const next = names.get(keyOf(step.at, step.counted))
      return next === undefined || !step.node.alive ? [] : [`${at > 0 ? COMMA : ''}${ref(step.node)} ${next}`]
    })
    if (mayEnd(way, at, counted)) choices.push('""')
    rules.set(names.get(key) ?? '', choices.join(' | '))
  }
  return (
    names.get(
      keyOf(
        0,
        way.counts.map(() => 0),
      ),
    ) ?? '""'
  )
}

/** Places from which a list can come to its end. */
function alivePlaces(way: ArrayWay): Map<string, { at: number; counted: readonly number[] }> {
  const { last, counted } = placesOf(way)
  const alive = new Map<string, { at: number; counted: readonly number[] }>()
  for (let at = last; at >= 0; at--) {
    for (const one of counted) {
      const goesOn = () =>
        stepsFrom(way, last, at, one).some((step) => step.node.alive && alive.has(keyOf(step.at, step.counted)))
      if (mayEnd(way, at, one) || goesOn()) alive.set(keyOf(at, one), { at, counted: one })
    }
  }
  return alive
}

function placesOf(way: ArrayWay): Places {
  const last = way.max === Number.POSITIVE_INFINITY ? Math.max(1, way.first.length, way.min) : way.max
  let counted: number[][] = [[]]
  for (const { least, most } of way.counts) {
    const top = most === Number.POSITIVE_INFINITY ? least : most
    const places = (last + 1) * counted.length * (top + 1)
    if (places > MOST_PLACES) {
      throw refuse(way.path, `too complex: ${places} ways to count items; at most ${MOST_PLACES} are allowed`, {
        limit: MOST_PLACES,
      })
    }
    counted = counted.flatMap((before) => Array.from({ length: top + 1 }, (_, i) => [...before, top - i]))
  }
  return { last, counted }
}

function stepsFrom(way: ArrayWay, last: number, at: number, counted: readonly number[]): Step[] {
  if (at >= way.max) return []
  const item: Item = way.first[at] ?? way.rest
  const next = Math.min(at + 1, last)
  const steps: Step[] = [{ node: item.any, at: next, counted }]
  for (const [i, { least, most }] of way.counts.entries()) {
    const before = counted[i] ?? 0
    const node = item.counting[i]
    if (node === undefined || before >= most) continue
    const after = most === Number.POSITIVE_INFINITY ? Math.min(before + 1, least) : before + 1
    steps.push({ node, at: next, counted: counted.with(i, after) })
  }
  return steps
}

function mayEnd({ min, counts }: ArrayWay, at: number, counted: readonly number[]): boolean {
  return at >= min && counts.every(({ least }, i) => (counted[i] ?? 0) >= least)
}

function keyOf(at: number, counted: readonly number[]): string {
  return `${at},${counted.join()}`
}
