import { hex, quoted } from './gbnf.js'
import type { GrammarRules } from './rules.js'

/** So many signs of names count as a step. */
const NAME_SIGNS_A_STEP = 8
/** Of a name, so many signs are told apart from those of other properties. */
const MOST_NAME_SIGNS = 128

/** A string that is none of these names: a property must not come a second time as an additional one. */
export function otherName(rules: GrammarRules, names: readonly string[], path: string): string {
  if (names.length === 0) return 'string'
  const inside = names.map((name) => [...JSON.stringify(name).slice(1, -1)].slice(0, MOST_NAME_SIGNS))
  rules.budget.spend(path, inside.reduce((sum, signs) => sum + signs.length, 0) / NAME_SIGNS_A_STEP)
  return `"\\"" ${otherText(rules, inside, 0)} "\\""`
}

/** @param at how many signs all these names have in common */
function otherText(rules: GrammarRules, names: readonly string[][], at: number): string {
  const next = new Map<string, string[][]>()
  for (const name of names) {
    const sign = name[at]
    if (sign === undefined) continue
    const alike = next.get(sign)
    if (alike) alike.push(name)
    else next.set(sign, [name])
  }
  const signs = [...next.keys()].filter((sign) => sign !== '\\' && sign !== '"')
  const others = signs.map((sign) => (sign < '\x80' ? hex(sign) : sign)).join('')
  const choices = [String.raw`[^"\\\x7F\x00-\x1F${others}] char*`]
  for (const sign of signs) {
    // What begins like a name that is cut short is left out: it may be that name.
    if (at + 1 < MOST_NAME_SIGNS) choices.push(`${quoted(sign)} ${otherText(rules, next.get(sign) ?? [], at + 1)}`)
  }
  // Ending here is right where no name ends here.
  const ends = names.some((name) => name.length === at)
  return rules.rule(ends ? choices.join(' | ') : ['""', ...choices].join(' | '))
}
