import { MeshError } from '../../../../lib/errors/index.js'

/** Characters of a path that an error shows at either end: names of properties may be of any length. */
const END_OF_PATH = 256

/**
 * Why a schema cannot be used.
 * @param path where in the request, such as `format.schema.properties.age.minimum`
 */
export function refuse(path: string, why: string, details: { limit?: number } = {}): MeshError {
  const shown = path.length > 2 * END_OF_PATH ? `${path.slice(0, END_OF_PATH)}…${path.slice(-END_OF_PATH)}` : path
  return MeshError.BAD_REQUEST(`The JSON schema does not compile: ${shown}: ${why}`, { param: shown, ...details })
}

/** A JSON value as the grammar's text for it. */
export function literal(value: unknown): string {
  return quoted(JSON.stringify(value))
}

/** Text as GBNF writes it. */
export function quoted(text: string): string {
  return `"${text.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n').replaceAll('\r', '\\r').replaceAll('\t', '\\t')}"`
}

/** One of several expressions. */
export function oneOf(choices: readonly string[]): string {
  const [only, ...others] = choices
  return only !== undefined && others.length === 0 ? only : `(${choices.join(' | ')})`
}

/** An ASCII sign as classes hold it, whatever it means there. */
export function hex(sign: string): string {
  return `\\x${sign.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
}
