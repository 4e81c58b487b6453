import type { LlamaModel, Token } from 'node-llama-cpp'
import type { InferenceRequest, OutputFormat } from '../../../lib/protocol/index.js'
import type { GrammarSource } from './compile.js'
import type { Grammar, Matcher } from './grammar/index.js'
import type { Grammars } from './grammars.js'
import { formatSchema } from './json/index.js'
import type { Prompt } from './prompt.js'
import {
  CallReader,
  type CallSyntax,
  type ChatRequest,
  forcedTools,
  markOf,
  mostCalls,
  offeredTools,
} from './tools/index.js'

/** What one answer may be: its grammar, which can change on the way, and how calls of tools are found in it. */
export interface Constraint {
  /** The grammar for the next token; undefined where any token will do. */
  readonly matcher: () => Matcher | undefined
  readonly calls?: CallReader
  /** Special tokens that calls are written with: they count as text here. */
  readonly visible: ReadonlySet<Token>
}

/**
 * @returns undefined where any text will do
 * @throws MeshError BAD_REQUEST when a schema or a grammar does not compile, CANCELLED when the signal aborts meanwhile
 */
export async function constraintFor(
  request: InferenceRequest,
  { syntax }: Prompt,
  grammars: Grammars,
  model: LlamaModel,
  signal: AbortSignal,
): Promise<Constraint | undefined> {
  if (request.kind === 'chat' && syntax) return toolConstraint(request, syntax, grammars, model, signal)
  const source = formatSource(request.format)
  if (source === undefined) return undefined
  const matcher = grammars.matcher(await grammars.compile(source, signal))
  return { matcher: () => matcher, visible: new Set() }
}

function formatSource(format: OutputFormat): GrammarSource | undefined {
  if (format.type === 'grammar') return { of: 'grammar', text: format.grammar }
  const asked = formatSchema(format)
  return asked && { of: 'schema', ...asked }
}

async function toolConstraint(
  request: ChatRequest,
  syntax: CallSyntax,
  grammars: Grammars,
  model: LlamaModel,
  signal: AbortSignal,
): Promise<Constraint> {
  const tools = [...offeredTools(request).entries()]
  const most = mostCalls(request, syntax)
  const forced = forcedTools(request)
  const schema = formatSchema(request.format)
  const whole: GrammarSource | undefined = forced
    ? { of: 'calls', syntax, tools: forced, most }
    : schema
      ? { of: 'calls', syntax, tools, most, orSchema: schema }
      : formatSource(request.format)
  const options = { syntax, names: new Set(tools.map(([, { name }]) => name)), most }
  const visible = specialTokens(syntax, model)
  if (whole !== undefined) {
    const matcher = grammars.matcher(await grammars.compile(whole, signal))
    // A caller's own grammar promises nothing about arguments.
    const sure = forced !== undefined || schema !== undefined
    return { matcher: () => matcher, calls: new CallReader({ ...options, onArguments: () => sure }), visible }
  }
  const compiled = new Map<string, Grammar>()
  // One by one: in between it is others' turn.
  for (const [index, tool] of tools) {
    compiled.set(tool.name, await grammars.compile({ of: 'arguments', tool, index }, signal))
  }
  const head = markOf(syntax) === undefined ? undefined : await grammars.compile(headOf(syntax, options.names), signal)
  let matcher: Matcher | undefined
  const calls = new CallReader({
    ...options,
    onArguments: (name, begun) => {
      const grammar = compiled.get(name)
      matcher = grammar && grammars.matcherAfter(grammar, begun)
      return matcher !== undefined
    },
    ...(head && { onMark: (begun) => (matcher = grammars.matcherAfter(head, begun)) }),
  })
  return { matcher: () => (calls.inHead || calls.inArguments ? matcher : undefined), calls, visible }
}

function headOf(syntax: CallSyntax, names: ReadonlySet<string>): GrammarSource {
  return { of: 'head', syntax, names: [...names] }
}

function specialTokens({ open, prefix, middle, suffix, between = '', close }: CallSyntax, model: LlamaModel) {
  const tokens = [open, prefix, middle, suffix, between, close].flatMap((text) => model.tokenize(text, true))
  return new Set(tokens.filter((token) => model.isSpecialToken(token) && !model.isEogToken(token)))
}
