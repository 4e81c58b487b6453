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

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Parses UTF-8 JSON from the wire. @throws MeshError BAD_REQUEST, never SyntaxError */
export function parseJson(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch (cause) {
    throw MeshError.BAD_REQUEST(`${what} is not JSON in UTF-8`, {}, { cause })
  }
}

/** JSON in UTF-8. */
export function encodeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
