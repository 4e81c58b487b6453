import type { Tool } from '../../../../lib/protocol/index.js'
import { type AskedSchema, addSchema, GrammarRules, isAssertion, modeOf, oneOf, quoted } from '../json/index.js'
import type { ChatRequest } from './conversation.js'
import { type CallSyntax, ID_SIGN, markOf, middles } from './syntax.js'

/** A model that has to call may call so often at most: a small one would not find its end. */
const MOST_FORCED_CALLS = 8
/** And so often where it is free to. */
const MOST_CALLS = 128

/** How many calls one answer may have. */
export function mostCalls({ toolChoice, parallelToolCalls = true }: ChatRequest, { between }: CallSyntax): number {
  if (!parallelToolCalls || between === undefined || typeof toolChoice === 'object') return 1
  return toolChoice === 'required' ? MOST_FORCED_CALLS : MOST_CALLS
}

/** The tools that an answer must call, each with its place in the request; undefined where it may do without. */
export function forcedTools({ tools = [], toolChoice }: ChatRequest): [number, Tool][] | undefined {
  if (toolChoice === 'required') return [...tools.entries()]
  if (typeof toolChoice !== 'object') return undefined
  return [...tools.entries()].filter(([, { name }]) => name === toolChoice.name)
}

/**
 * All answers that are calls of these tools with arguments that fit, or, where a schema is given, JSON that fits it.
 * @throws MeshError BAD_REQUEST naming what in a tool's parameters cannot be enforced
 */
export function callsGrammar(
  syntax: CallSyntax,
  tools: readonly [number, Tool][],
  most: number,
  orSchema?: AskedSchema,
): string {
  const rules = new GrammarRules()
  const heads = tools.map(([i, tool]) => {
    const json = argumentsOf(rules, tool, i)
    return `${quoted(tool.name)} ${syntaxText(syntax.middle)} ${json}`
  })
  const call = rules.rule(`${syntaxText(syntax.prefix)} ${oneOf(heads)} ${syntaxText(syntax.suffix)}`)
  const more = most > 1 ? `(${syntaxText(syntax.between ?? '')} ${call}){0,${most - 1}}` : ''
  const calls = `${syntaxText(syntax.open)} ${call} ${more} ${syntaxText(syntax.close)}`
  return orSchema
    ? rules.grammar(`${addSchema(rules, orSchema.schema, 'format.schema', orSchema)} | ${calls}`)
    : rules.grammar(calls, true)
}

/** What stands between the mark of a call and its arguments, with white space as models are free with it; then any text. */
export function headGrammar(syntax: CallSyntax, names: readonly string[]): string {
  const rest = (syntax.open + syntax.prefix).slice(markOf(syntax)?.length ?? 0)
  const middle = oneOf(middles(syntax).map(looseText))
  return new GrammarRules().grammar(`${looseText(rest)} ${oneOf(names.map(quoted))} ${middle} "{" [^\\x00]*`)
}

/**
 * A tool's arguments, and then any text: what stands behind them is not the grammar's concern, and must not keep a token
 * away that holds both.
 * @throws MeshError BAD_REQUEST as `callsGrammar`
 */
export function argumentsGrammar(tool: Tool, index: number): string {
  const rules = new GrammarRules()
  return rules.grammar(String.raw`${argumentsOf(rules, tool, index)} [^\x00]*`)
}

/** The expression for a tool's arguments, which are an object: an empty one where none are described. */
function argumentsOf(rules: GrammarRules, { parameters = {}, strict }: Tool, index: number): string {
  const { type: _, properties, ...rest } = parameters
  const isDescribed = Object.keys(properties ?? {}).length > 0 || Object.keys(rest).some(isAssertion)
  const schema = isDescribed ? parameters : { ...parameters, additionalProperties: false }
  return addSchema(rules, schema, `tools[${index}].parameters`, { mode: modeOf(strict), isObject: true })
}

function looseText(text: string): string {
  return text.split(/\s+/).map(syntaxText).join(String.raw` [ \t\n]{0,4} `)
}

function syntaxText(text: string): string {
  if (text === '') return '""'
  return text.split(ID_SIGN).map(quoted).join(' [a-zA-Z0-9]{9} ')
}
