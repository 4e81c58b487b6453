import type { Family, Sample } from './family.js'

/** Prometheus' text format, version 0.0.4. */
export const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** One worker's families, and the two labels that tell its series from the others'. */
export interface Source {
  role: string
  worker: string
  families: readonly Family[]
}

/**
 * Joins the families of all sources: one HELP and TYPE for each name, its series together, each with `role` and
 * `worker`. A series' own label of one of these names is kept as `exported_<name>`, as Prometheus does itself.
 *
 * prom-client's AggregatorRegistry does not serve here: it sums what it should keep apart by worker, and leaves out
 * the families whose aggregator is `omit`.
 *
 * @returns the merged families, and how many could not be merged: one name with two types, or a series sent twice
 */
export function merge(sources: readonly Source[]): { families: Family[]; conflicts: number } {
  const merged = new Map<string, Family>()
  const seen = new Set<string>()
  let conflicts = 0
  for (const { role, worker, families } of sources) {
    for (const { name, help, type, samples } of families) {
      let family = merged.get(name)
      if (family === undefined) {
        family = { name, help, type, samples: [] }
        merged.set(name, family)
      } else if (family.type !== type) {
        conflicts++
        continue
      }
      for (const sample of samples) {
        const labelled = { ...sample, labels: withSource(sample.labels, role, worker) }
        const key = seriesText(labelled)
        if (seen.has(key)) {
          conflicts++
          continue
        }
        seen.add(key)
        family.samples.push(labelled)
      }
    }
  }
  return { families: [...merged.values()], conflicts }
}

function withSource(labels: Record<string, string>, role: string, worker: string): Record<string, string> {
  const result: Record<string, string> = { role, worker }
  for (const [name, value] of Object.entries(labels)) {
    result[name === 'role' || name === 'worker' ? `exported_${name}` : name] = value
  }
  return result
}

/** Families as Prometheus reads them. */
export function render(families: readonly Family[]): string {
  const lines: string[] = []
  for (const { name, help, type, samples } of families) {
    lines.push(`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`)
    for (const sample of samples) lines.push(`${seriesText(sample)} ${valueText(sample.value)}`)
  }
  return `${lines.join('\n')}\n`
}

function seriesText({ name, labels }: Sample): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`)
  return `${name}{${pairs.join(',')}}`
}

function valueText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"')
}
