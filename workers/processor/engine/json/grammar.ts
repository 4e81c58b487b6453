import { Builder } from './build.js'
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

const TOO_MANY_OVERLAPS = 'cannot be enforced where names may match so much of it, or in so many ways'

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
  const build = (hints: boolean, isLoose = false) => {
    const builder = new Builder(source, rules, { mode, onLeftOut, hints, isLoose })
    const root = builder.whole(parts, param)
    const short = builder.coarse.find(({ node }) => !node.alive)
    if (short && mode === 'strict') builder.leaveOut(short.by, short.by.keyword, TOO_MANY_OVERLAPS)
    return { root, isShort: short !== undefined }
  }
  const first = build(true)
  if (first.root.alive) return new Writer(rules).whole(first.root)
  // What is only suggested may leave nothing where what is said leaves something.
  const said = build(false)
  // What could not be told apart is no reason to say that nothing fits.
  const root = !said.root.alive && said.isShort ? build(false, true).root : said.root
  if (!root.alive) throw reasonOf(first.root)
  return new Writer(rules).whole(root)
}
