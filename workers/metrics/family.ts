import { z } from 'zod'

/** What workers send: the shape of prom-client's getMetricsAsJSON, checked, because a member may run a faulty version. */

const MAX_FAMILIES = 2000
const MAX_SERIES = 20_000
const MAX_LABELS = 32
const MAX_TEXT = 1024

/** Prometheus' own rules, without the colon, which is kept for recording rules. */
const metricNameSchema = z
  .string()
  .max(200)
  .regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/)
const labelNameSchema = z
  .string()
  .max(200)
  .regex(/^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$/)
const labelValueSchema = z.union([z.string().max(MAX_TEXT), z.number(), z.boolean()]).transform(String)

const sampleSchema = z.object({
  /** Where it is not the family's own: `<name>_bucket`, `_sum`, `_count`. */
  metricName: metricNameSchema.optional(),
  labels: z
    .record(labelNameSchema, labelValueSchema)
    .refine((labels) => Object.keys(labels).length <= MAX_LABELS)
    .default({}),
  /** JSON has no NaN and no infinities: they arrive as null. */
  value: z.number().nullable(),
})

const familySchema = z
  .object({
    name: metricNameSchema,
    help: z.string().max(MAX_TEXT),
    type: z.enum(['counter', 'gauge', 'histogram', 'summary']),
    values: z.array(sampleSchema).max(MAX_SERIES),
  })
  .refine(({ name, type, values }) => {
    const names = sampleNames(name, type)
    return values.every(({ metricName }) => metricName === undefined || names.includes(metricName))
  })

/** One metric of one worker: a name, what it means, and its samples. */
export interface Family {
  name: string
  help: string
  type: 'counter' | 'gauge' | 'histogram' | 'summary'
  samples: Sample[]
}

export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

function sampleNames(name: string, type: Family['type']): string[] {
  if (type === 'histogram') return [`${name}_bucket`, `${name}_sum`, `${name}_count`]
  if (type === 'summary') return [name, `${name}_sum`, `${name}_count`]
  return [name]
}

/**
 * Reads what one worker sent. A family that breaks the rules, or is past the bounds, is left out and the others stay.
 * @returns the readable families, and how many were left out
 */
export function readFamilies(metrics: readonly unknown[]): { families: Family[]; rejected: number } {
  const families: Family[] = []
  let series = 0
  for (const metric of metrics.slice(0, MAX_FAMILIES)) {
    const { success, data } = familySchema.safeParse(metric)
    if (!success || series + data.values.length > MAX_SERIES) continue
    series += data.values.length
    const { name, help, type, values } = data
    const samples = values.map(({ metricName, labels, value }) => ({
      name: metricName ?? name,
      labels,
      value: value ?? Number.NaN,
    }))
    families.push({ name, help, type, samples })
  }
  return { families, rejected: metrics.length - families.length }
}
