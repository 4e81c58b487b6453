import type { z } from 'zod'

/** What a schema finds wrong with a value, in words for people. The value itself is not shown: it may be a secret. */

export interface Fault {
  path: PropertyKey[]
  /** What was expected. */
  message: string
  /** What was there instead, by its kind; absent where the kind was right. */
  got?: string
}

type Issue = Parameters<z.core.$ZodErrorMap>[0]

/** The first thing that is wrong; undefined where the value fits, which is given in `data`. */
export function check<T extends z.ZodType>(schema: T, value: unknown): { data: z.output<T> } | { fault: Fault } {
  const result = schema.safeParse(value, { error: expectedText, reportInput: true })
  if (result.success) return { data: result.data }
  const [issue] = result.error.issues
  if (issue === undefined) return { fault: { path: [], message: 'not valid' } }
  const got = issue.code === 'invalid_type' && issue.input !== undefined ? kindOf(issue.input) : undefined
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
  return { fault: { path: [...issue.path, ...unknown], message: issue.message, ...(got !== undefined && { got }) } }
}

const KINDS: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  bigint: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  tuple: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
}

function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'number') return Number.isInteger(value) ? 'a number' : 'a fraction'
  return KINDS[typeof value] ?? typeof value
}

/** Schemas' own words count before these. */
function expectedText(issue: Issue): string | undefined {
  switch (issue.code) {
    case 'invalid_type': {
      const expected = `expected ${KINDS[issue.expected] ?? issue.expected}`
      return issue.input === undefined ? `it is missing: ${expected}` : expected
    }
    case 'invalid_value': {
      const values = issue.values.map((one) => (typeof one === 'string' ? one : String(one)))
      return values.length === 1 ? `expected ${values[0]}` : `expected one of ${values.join(', ')}`
    }
    case 'too_big':
      return `expected ${sizeText(issue.origin, 'at most', Number(issue.maximum), issue.inclusive !== false)}`
    case 'too_small':
      return `expected ${sizeText(issue.origin, 'at least', Number(issue.minimum), issue.inclusive !== false)}`
    case 'not_multiple_of':
      return `expected a multiple of ${issue.divisor}`
    case 'unrecognized_keys':
      return 'there is no such field'
    case 'invalid_key':
      return `this name is not allowed: ${issue.issues[0]?.message ?? 'it has another form'}`
    case 'invalid_union':
      return unionText(issue)
    case 'invalid_format':
      return 'it has another form than is expected'
    default:
      return undefined
  }
}

const UNITS: Record<string, string> = { string: 'character', array: 'item', object: 'field', map: 'entry', set: 'item' }

function sizeText(origin: string, bound: string, size: number, inclusive: boolean): string {
  const unit = UNITS[origin]
  if (unit !== undefined && bound === 'at least' && size === 1)
    return origin === 'string' ? 'a text that is not empty' : `at least one ${unit}`
  const text = inclusive ? `${bound} ${size}` : `${bound === 'at most' ? 'less' : 'more'} than ${size}`
  return unit === undefined ? text : `${text} ${unit}${size === 1 ? '' : 's'}`
}

/** Of several forms that a value may have: what is wrong by the one that fits best, else all that it might have been. */
function unionText(issue: Extract<Issue, { code: 'invalid_union' }>): string {
  const first = issue.errors.flatMap((errors) => errors[0] ?? [])
  const inside = first.find(({ path }) => path.length > 0)
  if (inside !== undefined) return `${inside.path.join('.')}: ${inside.message}`
  if (first.length === 0) return kindsText('options' in issue ? issue.options : undefined)
  const forms = new Set(first.map(({ message }) => message.replace(/^(it is missing: )?expected /, '')))
  return `expected ${[...forms].join(', or ')}`
}

/** @param options the kinds that are told apart by one field */
function kindsText(options: unknown): string {
  const names = Array.isArray(options) ? options.filter((one) => typeof one === 'string') : []
  return names.length === 0 ? 'it is of none of the kinds that are known' : `expected one of ${names.join(', ')}`
}
