import type { z } from 'zod'
import { type ErrorCode, MeshError } from '../errors/index.js'
import { check } from './faults.js'

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
  const result = check(schema, value)
  if ('data' in result) return result.data
  const { path, message, got } = result.fault
  const param = pathText(path)
  throw MeshError[code](
    `${what}${param === '' ? '' : `: ${param}`}: ${lowerFirst(message)}${got === undefined ? '' : `, got ${got}`}`,
    param === '' ? {} : { param },
  )
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
