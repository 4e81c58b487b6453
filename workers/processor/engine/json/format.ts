import type { OutputFormat } from '../../../../lib/protocol/index.js'
import { jsonSchemaToGbnf } from './grammar.js'

/** The schema that a format asks for; undefined where it asks for something else. */
export function formatSchema(format: OutputFormat): Record<string, unknown> | undefined {
  if (format.type === 'json_object') return { type: 'object' }
  return format.type === 'json_schema' ? format.schema : undefined
}

/**
 * The grammar of a format; undefined where any text will do.
 * @throws MeshError BAD_REQUEST when the schema cannot be enforced
 */
export function formatGrammar(format: OutputFormat): string | undefined {
  if (format.type === 'grammar') return format.grammar
  const schema = formatSchema(format)
  return schema && jsonSchemaToGbnf(schema)
}
