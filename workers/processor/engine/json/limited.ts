import { KEYWORDS_OF, type Part, type Schema, type Type } from './schema.js'

/** Schemas that say something of values of one type. */
export function limitsOf(atoms: readonly Part[], type: keyof typeof KEYWORDS_OF): Schema[] {
  return atoms
    .map(({ schema }) => schema)
    .filter((schema) => KEYWORDS_OF[type].some((key) => schema[key] !== undefined))
}

/** True where a schema that names no type has keywords for values of this one, or names it alone. */
export function isSuggested(atoms: readonly Part[], type: Type): boolean {
  const of = type === 'integer' ? 'number' : type
  return (of === 'object' || of === 'array' || of === 'string' || of === 'number') && limitsOf(atoms, of).length > 0
}
