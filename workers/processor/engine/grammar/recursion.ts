import { END, isReference, type Program, target } from './program.js'

type Rules = Pick<Program, 'elements' | 'rules'>

/** A rule that another begins with. */
interface Corner {
  readonly to: number
  /** True where the other ends with it as well: what follows need not be remembered. */
  readonly whole: boolean
}

/**
 * A rule that can come back to itself before any sign does and remembers more each time, so that following it would
 * never end; undefined where there is none.
 */
export function growsLeft(program: Rules): number | undefined {
  const corners = cornersOf(program)
  const circle = circlesOf(corners)
  for (const [rule, ones] of corners.entries()) {
    if (ones.some(({ to, whole }) => !whole && circle[to] === circle[rule])) return rule
  }
  return undefined
}

function cornersOf(program: Rules): Corner[][] {
  const { elements, rules } = program
  const empty = emptyRules(program)
  return rules.map((choices) => {
    const corners: Corner[] = []
    for (const from of choices) {
      for (let at = from; isReference(elements[at] ?? END); at++) {
        const to = target(elements[at] ?? END)
        corners.push({ to, whole: elements[at + 1] === END })
        if (!empty.has(to)) break
      }
    }
    return corners
  })
}

/** Rules that let the empty text through. */
function emptyRules({ elements, rules }: Rules): ReadonlySet<number> {
  const empty = new Set<number>()
  const found: number[] = []
  /** By rule: choices made of references alone that hold it, once for each time. */
  const users: { rule: number; left: number }[][] = rules.map(() => [])
  const add = (rule: number) => {
    if (!empty.has(rule)) found.push(rule)
    empty.add(rule)
  }
  for (const [rule, choices] of rules.entries()) {
    for (const from of choices) {
      let at = from
      while (isReference(elements[at] ?? END)) at++
      if (elements[at] !== END) continue
      if (at === from) add(rule)
      const choice = { rule, left: at - from }
      for (let i = from; i < at; i++) users[target(elements[i] ?? END)]?.push(choice)
    }
  }
  for (let rule = found.pop(); rule !== undefined; rule = found.pop()) {
    for (const choice of users[rule] ?? []) if (--choice.left === 0) add(choice.rule)
  }
  return empty
}

/** By rule, a number that it shares with those it is in a circle with: Tarjan's algorithm, without recursion. */
function circlesOf(corners: readonly (readonly Corner[])[]): number[] {
  const seen: number[] = corners.map(() => -1)
  const low: number[] = corners.map(() => -1)
  const circle: number[] = corners.map(() => -1)
  const open: number[] = []
  let count = 0
  for (const start of corners.keys()) {
    if (seen[start] !== -1) continue
    const path: { rule: number; next: number }[] = []
    const enter = (rule: number) => {
      seen[rule] = low[rule] = count++
      open.push(rule)
      path.push({ rule, next: 0 })
    }
    enter(start)
    for (let here = path.at(-1); here !== undefined; here = path.at(-1)) {
      const { rule } = here
      const corner = corners[rule]?.[here.next++]
      if (corner !== undefined) {
        if (seen[corner.to] === -1) enter(corner.to)
        else if (circle[corner.to] === -1) low[rule] = Math.min(low[rule] ?? 0, seen[corner.to] ?? 0)
        continue
      }
      path.pop()
      const above = path.at(-1)?.rule
      if (above !== undefined) low[above] = Math.min(low[above] ?? 0, low[rule] ?? 0)
      if (low[rule] !== seen[rule]) continue
      for (let one = open.pop(); one !== undefined; one = open.pop()) {
        circle[one] = rule
        if (one === rule) break
      }
    }
  }
  return circle
}
