import type { OutputFormat } from '../../../lib/protocol/index.js'
import { type ResponseFormat, refuse, type TextFormat } from './bodies.js'

/** What an answer shall look like, in any of the ways in which OpenAI's clients and llama-server's say it. */

/** The fields of a body that say it. */
export interface FormatBody {
  response_format?: ResponseFormat | null
  /** llama-server's: a JSON schema as it is. */
  json_schema?: Record<string, unknown> | null
  /** llama-server's: GBNF. */
  grammar?: string | null
}

/** A format, and where in the body it stands. */
export interface AskedFormat {
  format: OutputFormat
  param: string
}

const TEXT: AskedFormat = { format: { type: 'text' }, param: 'response_format' }

/** @throws MeshError BAD_REQUEST where two are asked for at once, naming the second */
export function formatIn({ response_format, json_schema, grammar }: FormatBody): AskedFormat {
  const asked: AskedFormat[] = []
  if (response_format != null && response_format.type !== 'text') asked.push(responseFormat(response_format))
  if (json_schema != null) asked.push({ format: { type: 'json_schema', schema: json_schema }, param: 'json_schema' })
  // Clients that have no grammar to send send an empty one.
  if (grammar) asked.push({ format: { type: 'grammar', grammar }, param: 'grammar' })
  const [first = TEXT, second] = asked
  if (second !== undefined) refuse(second.param, `stands beside ${first.param}; an answer has one format`)
  return first
}

/** OpenAI's, and llama-server's shorter way of it: the schema beside the type. */
function responseFormat(given: Exclude<ResponseFormat, { type: 'text' }>): AskedFormat {
  const { schema } = given
  if (given.type === 'json_object') {
    if (schema == null) return { format: { type: 'json_object' }, param: 'response_format' }
    return { format: { type: 'json_schema', schema }, param: 'response_format.schema' }
  }
  const { json_schema } = given
  if (schema != null) {
    if (json_schema != null) refuse('response_format.schema', 'stands beside response_format.json_schema; give one')
    return { format: { type: 'json_schema', schema }, param: 'response_format.schema' }
  }
  if (json_schema == null) refuse('response_format.json_schema', 'is missing')
  const param = 'response_format.json_schema.schema'
  return { format: textFormatOf({ ...json_schema, type: 'json_schema' }), param }
}

export function textFormatOf(format: TextFormat | null | undefined): OutputFormat {
  if (format == null || format.type === 'text') return { type: 'text' }
  // A schema that is not given lets any object through.
  if (format.type === 'json_object' || format.schema == null) return { type: 'json_object' }
  return { type: 'json_schema', schema: format.schema, ...strictly(format.strict) }
}

/** Only who asks for it is refused what cannot be enforced. */
export function strictly(strict: boolean | null | undefined): { strict?: true } {
  return strict === true ? { strict } : {}
}
