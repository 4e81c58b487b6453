import { MeshError } from '../../../../lib/errors/index.js'
import { arrayWay } from './arrays.js'
import type { Builder } from './build.js'
import { limitsOf } from './limited.js'
import { otherName } from './names.js'
import { numberOf } from './numbers.js'
import { objectWay } from './objects.js'
import { noneFits } from './scalars.js'
import type { Part, Type } from './schema.js'
import type { Node, Way } from './shape.js'
import { type StringLimits, stringOf } from './strings.js'

/** What the values of one type are like that fit all schemas of a list. */

/** True where an error says that nothing fits, and not that it cannot be enforced. */
export function fitsNone(builder: Builder, type: Type, atoms: readonly Part[], path: string): boolean {
  if (type === 'object' || type === 'array') return false
  if (builder.mode === 'lenient') return true
  try {
    if (type === 'string') stringOf(builder.rules, stringLimits(builder, atoms), path, 'lenient')
    else if (type === 'number' || type === 'integer')
      numberOf(builder.rules, type, limitsOf(atoms, 'number'), path, 'lenient')
    return false
  } catch (err) {
    return err instanceof MeshError && err.details.limit === undefined
  }
}

/**
 * The values of one type that fit all of these.
 * @returns undefined where there are none
 * @throws MeshError BAD_REQUEST where there are none, what is asked costs too much, or in strict mode cannot be enforced
 */
export function wayOf(builder: Builder, type: Type, atoms: readonly Part[], node: Node): Way | undefined {
  switch (type) {
    case 'object':
      return objectWay(builder, atoms, node)
    case 'array':
      return arrayWay(builder, atoms, node)
    case 'null':
      return { kind: 'values', values: [null] }
    case 'boolean':
      return { kind: 'values', values: [true, false] }
    case 'string':
      if (builder.isProof) return noneFits(type, atoms) ? undefined : { kind: 'text', text: 'string' }
      return { kind: 'text', text: textOf(builder, atoms, node.path) }
    default: {
      if (builder.isProof) return noneFits(type, atoms) ? undefined : { kind: 'text', text: type }
      const text = numberOf(builder.rules, type, limitsOf(atoms, 'number'), node.path, builder.mode)
      return { kind: 'text', text }
    }
  }
}

/** The expression for strings. @throws MeshError BAD_REQUEST where none fits; in strict mode where it cannot be said */
function textOf(builder: Builder, atoms: readonly Part[], path: string): string {
  const limits = limitsOf(atoms, 'string')
  const make = (asked: readonly StringLimits[]) => stringOf(builder.rules, asked, path, builder.mode)
  const parts = atoms.filter(({ excluded }) => excluded !== undefined)
  if (limits.length === 0) {
    const excluded = new Set(parts.flatMap((part) => [...(part.excluded ?? [])]))
    return excluded.size === 0 ? 'string' : otherName(builder.rules, [...excluded], path)
  }
  const exact = stringLimits(builder, atoms)
  if (exact.length === limits.length) return make(limits)
  const text = builder.rules.budget.attempt(() => make(exact))
  if (text !== undefined) return text
  for (const part of parts) builder.leaveOut({ ...part, path }, 'not')
  return make(limits)
}

/** What is said of strings, with those texts that are excluded and that all else lets through. */
function stringLimits(builder: Builder, atoms: readonly Part[]): StringLimits[] {
  const fits = (text: string) =>
    atoms.every((one) => builder.validator.fitsOwn(text, { ...one, excluded: new Set() }) !== false)
  const excluded = new Set(atoms.flatMap((part) => [...(part.excluded ?? [])].filter(fits)))
  const limits = limitsOf(atoms, 'string')
  return excluded.size === 0 ? limits : [...limits, { excluded: [...excluded] }]
}
