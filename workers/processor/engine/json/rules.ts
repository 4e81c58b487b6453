import { SchemaBudget } from './limits.js'

/** The rules of one grammar, which several schemas may share. */
export class GrammarRules {
  /** What all schemas of the grammar may take together. */
  readonly budget = new SchemaBudget()
  readonly #rules = new Map<string, string>()
  readonly #names = new Map<string, string>()
  readonly #made = new Map<string, string>()

  /** @returns the name of the rule with this body */
  rule(body: string): string {
    const known = this.#names.get(body)
    if (known !== undefined) return known
    const name = this.reserve()
    this.#rules.set(name, body)
    this.#names.set(body, name)
    return name
  }

  /** What is made once for each key, however often it is asked for. */
  once(key: string, make: () => string): string {
    const known = this.#made.get(key)
    if (known !== undefined) return known
    const made = make()
    this.#made.set(key, made)
    return made
  }

  /** The name of a rule whose body is set later. */
  reserve(): string {
    const name = `r${this.#rules.size}`
    this.#rules.set(name, '')
    return name
  }

  set(name: string, body: string): void {
    this.#rules.set(name, body)
  }

  /**
   * The whole grammar. All base rules are in it, whether anything uses them or not.
   * @param compact true where no lines may be broken between values
   */
  grammar(root: string, compact = false): string {
    const base = Object.entries(compact ? { ...BASE_RULES, ws: '" "?' } : BASE_RULES)
    const rules = [['root', root], ...this.#rules, ...base]
    return rules.map(([name, body]) => `${name} ::= ${body}`).join('\n')
  }
}

/** Rules that every JSON grammar has. Runs of white space are bounded, so that no model can lose itself in one. */
const BASE_RULES: Readonly<Record<string, string>> = {
  ws: String.raw`| " " | "\n" [ \t]{0,20}`,
  // One code point, or half of one that is written as two escapes.
  char: String.raw`[^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})`,
  string: String.raw`"\"" char* "\""`,
  integral: '"0" | [1-9] [0-9]{0,15}',
  integer: '"-"? integral',
  number: '"-"? integral ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?',
  boolean: '"true" | "false"',
  null: '"null"',
  value: 'object | array | string | number | boolean | null',
  member: 'string ":" ws value',
  object: '"{" ws (member (ws "," ws member)*)? ws "}"',
  array: '"[" ws (value (ws "," ws value)*)? ws "]"',
  // One code point.
  sign: String.raw`[^"\\\x7F\x00-\x1F\U0000D800-\U0000DFFF] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))`,
}
