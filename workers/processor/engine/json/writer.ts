import { literal, refuse } from './gbnf.js'
import { countedItems, leastItems } from './listing.js'
import type { GrammarRules } from './rules.js'
import { canonical, times } from './schema.js'
import { COMMA, sequence } from './sequence.js'
import { isWayAlive } from './settle.js'
import type { ArrayWay, Node, ObjectWay, Way } from './shape.js'

/** Lists without repetition of so many named values come in any order; those of more, in the order in which they are named. */
const MOST_IN_ANY_ORDER = 6
/** Named values that a list without repetition may have. */
const MOST_DISTINCT = 1000
const MOST_COUNTED = 2000

/** Writes nodes as the rules of a grammar. */
export class Writer {
  readonly #rules: GrammarRules
  readonly #open: Node[] = []

  constructor(rules: GrammarRules) {
    this.#rules = rules
  }

  /** The expression for a node that is alive, once all that it needs has its rule. */
  whole(root: Node): string {
    const text = this.#ref(root)
    for (let node = this.#open.pop(); node !== undefined; node = this.#open.pop()) {
      this.#rules.set(node.rule ?? '', this.#body(node))
    }
    return text
  }

  /** An expression that can stand in a sequence. */
  #ref(given: Node): string {
    let node = given
    for (let only = onlyWay(node); only?.kind === 'same'; only = onlyWay(node)) node = only.node
    const [way, ...others] = node.ways
    if (way?.kind === 'text' && others.length === 0) return way.text
    if (way?.kind === 'values' && way.values.length === 1 && others.length === 0) return literal(way.values[0])
    if (node.rule === undefined) {
      node.rule = this.#rules.reserve()
      this.#open.push(node)
    }
    return node.rule
  }

  #body(node: Node): string {
    const choices = new Set(node.ways.filter(isWayAlive).flatMap((way) => this.#expressions(way)))
    if (choices.size === 0) throw refuse(node.path, 'no value fits all that applies here')
    this.#rules.budget.spend(node.path, choices.size)
    return [...choices].join(' | ')
  }

  #expressions(way: Way): string[] {
    switch (way.kind) {
      case 'same':
        return [this.#ref(way.node)]
      case 'text':
        return [way.text]
      case 'values':
        return way.values.map(literal)
      case 'object':
        return given(this.#object(way))
      case 'array':
        return given(this.#array(way))
    }
  }

  #object(way: ObjectWay): string | undefined {
    const members = way.members
      .filter(({ node }) => node.alive)
      .map(({ name, node, required }) => ({
        text: this.#rules.rule(`${literal(name)} ":" ws ${this.#ref(node)}`),
        required,
      }))
    const others = way.others
      .filter(({ node }) => node.alive)
      .map(({ name, node }) => this.#rules.rule(`${name} ":" ws ${this.#ref(node)}`))
    const other = others.length > 0 ? this.#rules.rule(others.join(' | ')) : undefined
    const bounded = way.max < members.length || (other !== undefined && way.max < Number.POSITIVE_INFINITY)
    const max = bounded ? Math.min(way.max, MOST_COUNTED + members.length) : Number.POSITIVE_INFINITY
    const top = bounded ? max : Math.max(1, way.min)
    const make = (isSure: boolean) =>
      sequence(this.#rules, members, { top, max, path: way.path }, (count) => {
        const least = Math.max(0, way.min - count)
        if (other === undefined) return least > 0 ? undefined : ''
        // Names that are free may be the same one twice, which counts once.
        return isSure && least > 1 ? undefined : repeated(other, least, max - count, count > 0)
      })
    let body = make(true)
    if (body === undefined) {
      way.onUncountable()
      body = make(false)
    }
    return body === undefined ? undefined : this.#rules.rule(`"{" ws ${body} ws "}"`)
  }

  #array(way: ArrayWay): string | undefined {
    if (way.distinct) {
      const values = finiteValues(way.rest.any)
      const isPlain = way.first.length === 0 && way.counts.length === 0
      if (isPlain && values !== undefined && values.length <= MOST_DISTINCT) return this.#distinct(way, values)
      if (!isPlain || values === undefined || values.length > 1) way.onIndistinct()
    }
    if (way.counts.length > 0) {
      const items = countedItems(this.#rules, way, (node) => this.#ref(node))
      return this.#rules.rule(`"[" ws ${items} ws "]"`)
    }
    const firstDead = way.first.findIndex(({ any }) => !any.alive)
    const first = firstDead < 0 ? way.first : way.first.slice(0, firstDead)
    const least = leastItems(way)
    const isClosed = firstDead >= 0 || !way.rest.any.alive
    const most = isClosed ? Math.min(way.max, first.length) : way.max
    let items = most > first.length ? this.#rest(way.rest.any, least, most, first.length) : ''
    for (let at = Math.min(first.length, most) - 1; at >= 0; at--) {
      const item = first[at]
      const here = item === undefined ? '""' : `${at > 0 ? COMMA : ''}${this.#ref(item.any)} ${items}`
      items = this.#rules.rule(at < least ? here : `(${here})?`)
    }
    return this.#rules.rule(`"[" ws ${items} ws "]"`)
  }

  #rest(node: Node, least: number, most: number, before: number): string {
    return this.#rules.rule(
      repeated(this.#rules.rule(this.#ref(node)), Math.max(0, least - before), most - before, before > 0),
    )
  }

  /** A list in which each of these values comes once at most. */
  #distinct(way: ArrayWay, values: readonly unknown[]): string | undefined {
    const texts = values.map((value) => this.#rules.rule(literal(value)))
    const most = Math.min(way.max, values.length)
    if (way.min > most) return undefined
    if (values.length > MOST_IN_ANY_ORDER) {
      const max = most < values.length ? most : Number.POSITIVE_INFINITY
      const top = max === most ? most : Math.max(1, way.min)
      const choices = texts.map((text) => ({ text, required: false }))
      const body = sequence(this.#rules, choices, { top, max, path: way.path }, (count) =>
        count < way.min ? undefined : '',
      )
      return body && this.#rules.rule(`"[" ws ${body} ws "]"`)
    }
    // By which of them are there already, as bits.
    const rests = new Map<number, string>()
    for (let there = 2 ** texts.length - 1; there >= 0; there--) {
      const count = texts.filter((_, i) => there & (1 << i)).length
      if (count > most) continue
      const choices = texts.flatMap((text, i) => {
        const next = rests.get(there | (1 << i))
        return there & (1 << i) || next === undefined ? [] : [`${count > 0 ? COMMA : ''}${text} ${next}`]
      })
      if (count >= way.min) choices.push('""')
      rests.set(there, this.#rules.rule(choices.join(' | ')))
    }
    return this.#rules.rule(`"[" ws ${rests.get(0) ?? '""'} ws "]"`)
  }
}

/** So many of these, with commas between them. */
function repeated(what: string, least: number, most: number, isComma: boolean): string {
  if (most <= 0) return ''
  const another = `(${COMMA}${what})`
  const end = most === Number.POSITIVE_INFINITY ? undefined : most
  if (isComma) return times(another, least, end)
  const all = `${what} ${times(another, Math.max(0, least - 1), end === undefined ? undefined : end - 1)}`
  return least > 0 ? all : `(${all})?`
}

function onlyWay(node: Node): Way | undefined {
  const alive = node.ways.length === 1 ? node.ways : node.ways.filter(isWayAlive)
  return alive.length === 1 ? alive[0] : undefined
}

function given(text: string | undefined): string[] {
  return text === undefined ? [] : [text]
}

/** All values of a node, each once, where it has only named ones. */
function finiteValues(node: Node): unknown[] | undefined {
  const values = new Map<string, unknown>()
  const seen = new Set<Node>()
  const open = [node]
  for (const one of open) {
    if (seen.has(one)) continue
    seen.add(one)
    for (const way of one.ways) {
      if (way.kind === 'same') open.push(way.node)
      else if (way.kind === 'values') for (const value of way.values) values.set(canonical(value), value)
      else if (isWayAlive(way)) return undefined
    }
  }
  return [...values.values()]
}

/** Why nothing fits: the place that leaves the whole without a value. */
export function reasonOf(root: Node): Error {
  const seen = new Set<Node>()
  let node = root
  while (!seen.has(node)) {
    seen.add(node)
    if (node.why !== undefined && node.ways.length === 0) return node.why
    const next = node.ways.flatMap((way): Node[] => {
      if (way.kind === 'same') return [way.node]
      if (way.kind === 'object') return way.members.filter((one) => one.required).map((one) => one.node)
      return way.kind === 'array' ? [...way.first, way.rest].map(({ any }) => any) : []
    })
    const dead = next.find((one) => !one.alive && !seen.has(one))
    if (dead === undefined) break
    node = dead
  }
  return node.why ?? refuse(node.path, 'no value that comes to an end fits')
}
