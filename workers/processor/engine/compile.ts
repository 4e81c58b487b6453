import type { Tool } from '../../../lib/protocol/index.js'
import { type Program, parseGrammar } from './grammar/index.js'
import { type AskedSchema, jsonSchemaToGbnf } from './json/index.js'
import { argumentsGrammar, type CallSyntax, callsGrammar, headGrammar } from './tools/index.js'

/** What a grammar is made of. It goes to another thread as JSON. */
export type GrammarSource =
  | { of: 'grammar'; text: string }
  | ({ of: 'schema' } & AskedSchema)
  | { of: 'calls'; syntax: CallSyntax; tools: [number, Tool][]; most: number; orSchema?: AskedSchema }
  | { of: 'head'; syntax: CallSyntax; names: string[] }
  | { of: 'arguments'; tool: Tool; index: number }

/** What in the request a grammar comes from. */
export function paramOf(source: GrammarSource): string {
  switch (source.of) {
    case 'grammar':
      return 'format.grammar'
    case 'schema':
      return 'format.schema'
    case 'calls':
    case 'head':
      return 'tools'
    case 'arguments':
      return `tools[${source.index}].parameters`
  }
}

/**
 * Schemas to a grammar, and that to a program.
 * @throws MeshError BAD_REQUEST where something cannot be enforced, is malformed, or exceeds a limit
 */
export function compile(source: GrammarSource): Program {
  return parseGrammar(textOf(source), paramOf(source))
}

function textOf(source: GrammarSource): string {
  switch (source.of) {
    case 'grammar':
      return source.text
    case 'schema':
      return jsonSchemaToGbnf(source.schema, paramOf(source), { mode: source.mode })
    case 'calls':
      return callsGrammar(source.syntax, source.tools, source.most, source.orSchema)
    case 'head':
      return headGrammar(source.syntax, source.names)
    case 'arguments':
      return argumentsGrammar(source.tool, source.index)
  }
}
