import type { Part } from './schema.js'

/**
 * What a schema comes to once everything that applies together is one: for each place in a value, the ways in which it can
 * be filled. A place is a node; where a schema refers to itself, nodes form circles.
 */
export interface Node {
  /** What applies here, together. */
  readonly parts: readonly Part[]
  readonly path: string
  /** How far it is from where it was asked for. */
  readonly depth: number
  readonly ways: Way[]
  /** Why there are not more ways, for errors. */
  why: Error | undefined
  /** True where some value fits. */
  alive: boolean
  /** The rule that says it in the grammar, once there is one. */
  rule: string | undefined
}

export type Way =
  | { readonly kind: 'same'; readonly node: Node }
  /** A grammar's expression. */
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'values'; readonly values: readonly unknown[] }
  | ObjectWay
  | ArrayWay

export interface Member {
  readonly name: string
  readonly node: Node
  readonly required: boolean
}

export interface ObjectWay {
  readonly kind: 'object'
  readonly path: string
  readonly members: readonly Member[]
  /** Other members: the expression for their names, and their values. */
  readonly others: readonly { readonly name: string; readonly node: Node }[]
  readonly min: number
  readonly max: number
  /** Called where names that are free are needed in a number that a grammar cannot make sure of. */
  readonly onUncountable: () => void
}

/** One place of a list. */
export interface Item {
  /** Any item that may stand here. */
  readonly any: Node
  /** One that counts for each of the list's counts. */
  readonly counting: readonly Node[]
}

export interface ArrayWay {
  readonly kind: 'array'
  readonly path: string
  readonly first: readonly Item[]
  readonly rest: Item
  readonly min: number
  readonly max: number
  /** True where all first items come, unless that has no end: nobody says how many have to. */
  isFilled: boolean
  /** How many of its items have to count, and may. */
  readonly counts: readonly { readonly least: number; readonly most: number }[]
  /** True where no item may come twice. */
  readonly distinct: boolean
  /** Called where that cannot be enforced. */
  readonly onIndistinct: () => void
}
