import { canFill, leastItems } from './listing.js'
import type { Node, Way } from './shape.js'

/** Which nodes have a value that comes to an end: found from those that need no others, on to those that need these. */

interface Waiting {
  readonly node: Node
  readonly way: Way
  /** Nodes that have to be alive, and are not yet. */
  needed: number
  /** How many of the others have to be. */
  wanted: number
}

export function settle(nodes: readonly Node[]): void {
  const settler = new Settler(nodes)
  settler.run()
  // What nobody asked for is given up where it leaves nothing.
  for (let relaxed = true; relaxed; ) {
    relaxed = false
    for (const node of nodes) {
      for (const way of node.ways) {
        if (node.alive || way.kind !== 'array' || !way.isFilled) continue
        way.isFilled = false
        relaxed = true
      }
    }
    if (relaxed) new Settler(nodes).run()
  }
}

class Settler {
  readonly #users = new Map<Node, { one: Waiting; isNeeded: boolean; weight: number }[]>()
  readonly #found: Node[] = []

  constructor(nodes: readonly Node[]) {
    for (const node of nodes) if (!node.alive) for (const way of node.ways) this.#add(node, way)
  }

  run(): void {
    for (let node = this.#found.pop(); node !== undefined; node = this.#found.pop()) {
      for (const { one, isNeeded, weight } of this.#users.get(node) ?? []) {
        if (isNeeded) one.needed--
        else one.wanted -= weight
        this.#check(one)
      }
    }
  }

  #add(node: Node, way: Way): void {
    const { needs, wants, wanted } = demandsOf(way)
    const one: Waiting = { node, way, needed: 0, wanted }
    for (const need of new Set(needs))
      if (!need.alive) {
        one.needed++
        this.#wait(need, { one, isNeeded: true, weight: 1 })
      }
    for (const { node: want, weight } of wants) {
      if (want.alive) one.wanted -= weight
      else this.#wait(want, { one, isNeeded: false, weight })
    }
    this.#check(one)
  }

  #wait(node: Node, entry: { one: Waiting; isNeeded: boolean; weight: number }): void {
    const users = this.#users.get(node)
    if (users) users.push(entry)
    else this.#users.set(node, [entry])
  }

  #check({ node, way, needed, wanted }: Waiting): void {
    if (node.alive || needed > 0 || wanted > 0 || !isPossible(way)) return
    node.alive = true
    this.#found.push(node)
  }
}

interface Demands {
  readonly needs: readonly Node[]
  readonly wants: readonly { node: Node; weight: number }[]
  readonly wanted: number
}

function demandsOf(way: Way): Demands {
  switch (way.kind) {
    case 'same':
      return { needs: [way.node], wants: [], wanted: 0 }
    case 'object': {
      const required = way.members.filter((member) => member.required)
      const wants = way.members.filter((member) => !member.required).map(({ node }) => ({ node, weight: 1 }))
      const others = way.others.map(({ node }) => ({ node, weight: Number.POSITIVE_INFINITY }))
      return {
        needs: required.map(({ node }) => node),
        wants: [...wants, ...others],
        wanted: way.min - required.length,
      }
    }
    case 'array': {
      if (way.counts.length > 0) {
        const all = [...way.first, way.rest].flatMap(({ any, counting }) => [any, ...counting])
        return { needs: [], wants: all.map((node) => ({ node, weight: 0 })), wanted: 0 }
      }
      const least = leastItems(way)
      const needs = way.first.slice(0, least).map(({ any }) => any)
      if (least > way.first.length) needs.push(way.rest.any)
      return { needs, wants: [], wanted: 0 }
    }
    default:
      return { needs: [], wants: [], wanted: 0 }
  }
}

/** True where a value of this way can be made of nodes that are alive. */
export function isWayAlive(way: Way): boolean {
  const { needs, wants, wanted } = demandsOf(way)
  if (!needs.every(({ alive }) => alive) || !isPossible(way)) return false
  return wants.reduce((left, { node, weight }) => (node.alive ? left - weight : left), wanted) <= 0
}

/** Without what is asked of other nodes. */
function isPossible(way: Way): boolean {
  switch (way.kind) {
    case 'values':
      return way.values.length > 0
    case 'object':
      return way.members.filter(({ required }) => required).length <= way.max && way.min <= way.max
    case 'array':
      return leastItems(way) <= way.max && (way.counts.length === 0 || canFill(way))
    default:
      return true
  }
}
