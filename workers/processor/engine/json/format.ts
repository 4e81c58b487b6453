import type { OutputFormat } from '../../../../lib/protocol/index.js'
import type { EnforceMode } from './mode.js'

/** A schema, and how it is held to. */
export interface AskedSchema {
  readonly schema: Record<string, unknown>
  /** Absent: lenient. */
  readonly mode?: EnforceMode
}

/** The schema that a format asks for; undefined where it asks for something else. */
export function formatSchema(format: OutputFormat): AskedSchema | undefined {
  if (format.type === 'json_object') return { schema: { type: 'object' }, mode: 'lenient' }
  return format.type === 'json_schema' ? { schema: format.schema, mode: modeOf(format.strict) } : undefined
}

export function modeOf(strict: boolean | undefined): EnforceMode {
  return strict === true ? 'strict' : 'lenient'
}
