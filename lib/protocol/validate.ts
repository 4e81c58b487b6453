import type { z } from 'zod'
import { type ErrorCode, MeshError } from '../errors/index.js'

/**
 * Checks a value against its schema.
 * @param what what the value is, for the message: `request`, `member record`
 * @throws MeshError with `code`: the first thing wrong, with its place in `details.param`
 */
export function validate<T extends z.ZodType>(
  schema: T,
  value: unknown,
  what: string,
  code: ErrorCode = 'BAD_REQUEST',
): z.output<T> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const param = issue ? pathText(unknownKeyPath(issue) ?? issue.path) : ''
  const message = issue?.message ?? 'not valid'
  throw MeshError[code](
    `${what}${param === '' ? '' : `: ${param}`}: ${lowerFirst(message)}`,
    param === '' ? {} : { param },
  )
}

function unknownKeyPath(issue: z.core.$ZodIssue): PropertyKey[] | undefined {
  return issue.code === 'unrecognized_keys' && issue.keys[0] !== undefined ? [...issue.path, issue.keys[0]] : undefined
}

/** `['messages', 2, 'role']` as `messages[2].role`. */
function pathText(path: PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    return text === '' ? String(part) : `${text}.${String(part)}`
  }, '')
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1)
}
