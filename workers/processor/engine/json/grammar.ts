import { Builder, type Options } from './build.js'
import type { Keyword } from './expand.js'
import type { EnforceMode } from './mode.js'
import { GrammarRules } from './rules.js'
import { Source } from './source.js'
import { reasonOf, Writer } from './writer.js'

/**
 * JSON Schema to GBNF, in three steps: everything that applies to the same value becomes one (build.ts), what no value fits is
 * found (settle.ts), and the rest is written as rules (write.ts). The grammar may let through less than the schema does,
 * never more, except for what the lenient mode leaves out.
 */

export interface Enforcement {
  readonly mode?: EnforceMode
  /** True where the value has to be an object. */
  readonly isObject?: boolean
  /** Told of each keyword that the lenient mode leaves out. */
  readonly onLeftOut?: (one: Keyword) => void
}

/**
 * The grammar of all texts that are JSON and fit the schema.
 * @param param where the schema stands in the request, for errors
 * @throws MeshError BAD_REQUEST naming the keyword that is wrong, cannot be enforced, or lets nothing through
 */
export function jsonSchemaToGbnf(
  schema: Record<string, unknown>,
  param = 'format.schema',
  enforcement: Enforcement = {},
): string {
  const rules = new GrammarRules()
  return rules.grammar(addSchema(rules, schema, param, enforcement))
}

/**
 * Adds the rules that a schema needs.
 * @returns the expression for its values
 * @throws MeshError BAD_REQUEST as `jsonSchemaToGbnf`
 */
export function addSchema(
  rules: GrammarRules,
  schema: Record<string, unknown>,
  param: string,
  { mode = 'lenient', isObject = false, onLeftOut = () => {} }: Enforcement = {},
): string {
  rules.budget.admit(schema, param)
  const source = new Source(schema, param, rules.budget)
  const parts = isObject ? [{ schema: { type: 'object' }, path: param }, source.root] : [source.root]
  const build = (options: Pick<Options, 'hints'>) =>
    new Builder(source, rules, { mode, onLeftOut, ...options }).whole(parts, param)
  let root = build({ hints: true })
  if (!root.alive) {
    const reason = reasonOf(root)
    // What is only suggested may leave nothing where what is said leaves something.
    root = build({ hints: false })
    if (!root.alive) throw reason
  }
  return new Writer(rules).whole(root)
}
