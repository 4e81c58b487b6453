import { SchemaBudget } from './limits.js'

/** The rules of one grammar, which several schemas may share. */
export class GrammarRules {
  /** What all schemas of the grammar may take together. */
  readonly budget = new SchemaBudget()
  readonly #rules = new Map<string, string>()
  readonly #names = new Map<string, string>()

  /** @returns the name of the rule with this body */
  rule(body: string): string {
    const known = this.#names.get(body)
    if (known !== undefined) return known
    const name = this.reserve()
    this.#rules.set(name, body)
    this.#names.set(body, name)
    return name
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
  year: '[0-9]{4}',
  // Divisible by 4, and by 400 where it ends a century.
  leapyear: '[0-9]{2} ("0" [48] | [2468] [048] | [13579] [26]) | ("0" [048] | [2468] [048] | [13579] [26]) "00"',
  day: '"0" [1-9] | "1" [0-9] | "2" [0-8]',
  date:
    'year "-" (("0" [13-9] | "1" [0-2]) "-" (day | "29" | "30") | ("0" [13578] | "10" | "12") "-31" | "02-" day) | ' +
    'leapyear "-02-29"',
  offset: '"Z" | [-+] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]',
  time: '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? offset',
  hex4: '[0-9a-fA-F]{4}',
  octet: '[0-9] | [1-9] [0-9] | "1" [0-9]{2} | "2" [0-4] [0-9] | "25" [0-5]',
  label: '[a-z0-9] ([a-z0-9-]{0,30} [a-z0-9])?',
}

/** The inside of strings that have a format. */
export const FORMATS: Readonly<Record<string, string>> = {
  date: 'date',
  time: 'time',
  'date-time': 'date "T" time',
  uuid: 'hex4 hex4 "-" hex4 "-" hex4 "-" hex4 "-" hex4 hex4 hex4',
  ipv4: 'octet "." octet "." octet "." octet',
  hostname: 'label ("." label){0,4}',
  email: '[a-zA-Z0-9_+-]{1,40} ("." [a-zA-Z0-9_+-]{1,20}){0,2} "@" label ("." label){0,3} "." [a-z]{2,10}',
}
