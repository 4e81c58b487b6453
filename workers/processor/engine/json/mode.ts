/**
 * How a schema is held to. `strict` refuses by name what cannot be enforced; `lenient` enforces what it can, leaves the rest
 * out, and refuses only what no value fits or what costs too much.
 */
export type EnforceMode = 'strict' | 'lenient'
