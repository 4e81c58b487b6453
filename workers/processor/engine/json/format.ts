import type { OutputFormat } from '../../../../lib/protocol/index.js'

/** The schema that a format asks for; undefined where it asks for something else. */
export function formatSchema(format: OutputFormat): Record<string, unknown> | undefined {
  if (format.type === 'json_object') return { type: 'object' }
  return format.type === 'json_schema' ? format.schema : undefined
}
