import type { LlamaGrammar, LlamaGrammarEvaluationState, LlamaModel, Token } from 'node-llama-cpp'
import type { InferenceRequest } from '../../../lib/protocol/index.js'
import type { Grammars } from './grammars.js'
import { formatGrammar, formatSchema } from './json/index.js'
import type { Prompt } from './prompt.js'
import {
  argumentsGrammar,
  CallReader,
  type CallSyntax,
  type ChatRequest,
  callsGrammar,
  forcedTools,
  mostCalls,
  offeredTools,
} from './tools/index.js'

/** What one answer may be: its grammar, which can change on the way, and how calls of tools are found in it. */
export interface Constraint {
  /** The grammar's state for the next token; undefined where any token will do. */
  readonly state: () => LlamaGrammarEvaluationState | undefined
  readonly calls?: CallReader
  /** Special tokens that calls are written with: they count as text here. */
  readonly visible: ReadonlySet<Token>
}

/**
 * @returns undefined where any text will do
 * @throws MeshError BAD_REQUEST when a schema or a grammar does not compile
 */
export async function constraintFor(
  request: InferenceRequest,
  { syntax }: Prompt,
  grammars: Grammars,
  model: LlamaModel,
): Promise<Constraint | undefined> {
  if (request.kind === 'chat' && syntax) return toolConstraint(request, syntax, grammars, model)
  const text = formatGrammar(request.format)
  if (text === undefined) return undefined
  const state = grammars.newState(await grammars.compile(text))
  return { state: () => state, visible: new Set() }
}

async function toolConstraint(
  request: ChatRequest,
  syntax: CallSyntax,
  grammars: Grammars,
  model: LlamaModel,
): Promise<Constraint> {
  const tools = [...offeredTools(request).entries()]
  const most = mostCalls(request, syntax)
  const forced = forcedTools(request)
  const schema = formatSchema(request.format)
  const whole = forced
    ? callsGrammar(syntax, forced, most)
    : schema
      ? callsGrammar(syntax, tools, most, schema)
      : formatGrammar(request.format)
  const options = { syntax, names: new Set(tools.map(([, { name }]) => name)), most }
  const visible = specialTokens(syntax, model)
  if (whole !== undefined) {
    const state = grammars.newState(await grammars.compile(whole, forced || schema ? 'tools' : 'format.grammar'))
    // A caller's own grammar promises nothing about arguments.
    const sure = forced !== undefined || schema !== undefined
    return { state: () => state, calls: new CallReader({ ...options, onArguments: () => sure }), visible }
  }
  const compiled = new Map<string, LlamaGrammar>()
  for (const [i, tool] of tools)
    compiled.set(tool.name, await grammars.compile(argumentsGrammar(tool, i), `tools[${i}].parameters`))
  let state: LlamaGrammarEvaluationState | undefined
  const calls = new CallReader({
    ...options,
    onArguments: (name, begun) => {
      const grammar = compiled.get(name)
      state = grammar && grammars.stateAfter(grammar, begun)
      return state !== undefined
    },
  })
  return { state: () => (calls.inArguments ? state : undefined), calls, visible }
}

function specialTokens({ open, prefix, middle, suffix, between = '', close }: CallSyntax, model: LlamaModel) {
  const tokens = [open, prefix, middle, suffix, between, close].flatMap((text) => model.tokenize(text, true))
  return new Set(tokens.filter((token) => model.isSpecialToken(token) && !model.isEogToken(token)))
}
