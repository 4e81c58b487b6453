import type { SchemaBudget } from './limits.js'
import {
  canonical,
  entriesOf,
  entryOf,
  includesType,
  isObject,
  listOf,
  NEVER,
  namedTypes,
  type Part,
  partOf,
  partsOf,
  type Schema,
  TYPES,
  type Type,
  textsOf,
} from './schema.js'
import type { Source } from './source.js'

/**
 * Everything that applies to the same value as one list: `$ref`, `allOf` and what stands beside them together, and a list
 * for each way through `anyOf`, `oneOf`, `if` and what depends on a property.
 */

/** A keyword where it stands. */
export interface Keyword extends Part {
  readonly keyword: string
}

/** A schema that must not fit. */
export interface Not {
  readonly part: Part
  /** The keyword that says so, for errors. */
  readonly by: Part
  readonly keyword: string
}

/** What applies on one way. Of the schemas of `atoms`, keywords that apply in place are done with. */
export interface State {
  readonly atoms: readonly Part[]
  readonly nots: readonly Not[]
}

interface Choice {
  readonly parts: readonly Part[]
  readonly nots: readonly Not[]
}

interface Open {
  readonly atoms: Part[]
  readonly nots: Not[]
  readonly seen: Set<Schema>
  todo: Part[]
  forks: (readonly Choice[])[]
}

/** Atoms that cost as much as a step when a way forks. */
const ATOMS_A_STEP = 4

/** Schemas that nobody wrote, but that follow from others. One is the same object each time, by which it is known again. */
export class Derived {
  readonly #known = new Map<Schema, Map<string, Part>>()
  /** Of a schema that nobody wrote, the one it follows from. */
  readonly #from = new Map<Schema, Schema>()
  /** Of a schema whose opposite is needed, who needs it. */
  readonly #users = new Map<Schema, Set<Keyword>>()

  /** @param label what it is, among those that follow from the same schema */
  part(from: Part, label: string, make: () => Schema, excluded?: ReadonlySet<string>): Part {
    const ones = this.#known.get(from.schema) ?? new Map<string, Part>()
    this.#known.set(from.schema, ones)
    const known = ones.get(label)
    if (known !== undefined) return known
    const part = { schema: make(), path: from.path, ...(excluded && { excluded }) }
    ones.set(label, part)
    this.#from.set(part.schema, from.schema)
    return part
  }

  /** Remembers why the opposite of a schema is needed. */
  use({ part, by, keyword }: Not): void {
    const users = this.#users.get(part.schema) ?? new Set<Keyword>()
    this.#users.set(part.schema, users)
    if (![...users].some((one) => one.schema === by.schema && one.keyword === keyword)) {
      users.add({ schema: by.schema, path: by.path, keyword })
    }
  }

  /** True where nobody wrote a schema. */
  has(schema: Schema): boolean {
    return this.#from.has(schema)
  }

  /** The keywords that somebody wrote and that one of these, which perhaps nobody wrote, follows from. */
  origins(first: Keyword): Keyword[] {
    const written: Keyword[] = []
    const open = [first]
    const seen = new Set<Schema>()
    for (const one of open) {
      const from = this.#from.get(one.schema)
      if (from === undefined) written.push(one)
      else if (!seen.has(from)) {
        seen.add(from)
        open.push(...(this.#users.get(from) ?? []))
      }
    }
    return written
  }
}

export class Expander {
  readonly #source: Source
  readonly #budget: SchemaBudget
  readonly #derived: Derived
  readonly #isExclusive: (part: Part) => boolean
  readonly #values = new Map<Schema, ReadonlySet<string>>()

  /** @param isExclusive true where no value fits two schemas of a part's `oneOf` */
  constructor(source: Source, budget: SchemaBudget, derived: Derived, isExclusive: (part: Part) => boolean) {
    this.#source = source
    this.#budget = budget
    this.#derived = derived
    this.#isExclusive = isExclusive
  }

  /** All ways on which what is to be done applies as well. @throws MeshError BAD_REQUEST where there are too many */
  expand(from: State, todo: readonly Part[]): State[] {
    const done: State[] = []
    const seen = new Set(from.atoms.map(({ schema }) => schema))
    const open: Open[] = [{ atoms: [...from.atoms], nots: [...from.nots], seen, todo: [...todo], forks: [] }]
    for (let one = open.pop(); one !== undefined; one = open.pop()) {
      if (!this.#settle(one)) continue
      const [fork, ...forks] = one.forks
      if (fork === undefined) {
        done.push({ atoms: one.atoms, nots: one.nots })
        continue
      }
      for (const { parts, nots } of [...fork].reverse()) {
        this.#budget.spend(parts[0]?.path ?? '', 1 + one.atoms.length / ATOMS_A_STEP)
        open.push({
          atoms: [...one.atoms],
          nots: [...one.nots, ...nots],
          seen: new Set(one.seen),
          todo: [...parts],
          forks: [...forks],
        })
      }
    }
    return done
  }

  /** @returns false where nothing fits */
  #settle(open: Open): boolean {
    for (const part of open.todo) {
      const { schema, path, owners = [] } = part
      if (schema === NEVER) return false
      // What counts for those that look at what is left is listed for each of them.
      if (open.seen.has(schema) && owners.length === 0 && part.excluded === undefined) continue
      this.#budget.spend(path, 1 + Object.keys(schema).length)
      open.seen.add(schema)
      open.atoms.push(part)
      const looksBack = schema.unevaluatedProperties !== undefined || schema.unevaluatedItems !== undefined
      const inside = looksBack ? [...owners, schema] : owners
      const owned = (one: Part): Part => (inside.length === 0 ? one : { ...one, owners: inside })
      const target = this.#source.target(schema)
      if (target !== undefined) open.todo.push(owned(target))
      open.todo.push(...partsOf(schema.allOf, `${path}.allOf`).map(owned))
      if (schema.not !== undefined)
        open.nots.push({ part: partOf(schema.not, `${path}.not`), by: part, keyword: 'not' })
      open.forks.push(
        ...this.#forks(part).map((fork) => fork.map(({ parts, nots }) => ({ parts: parts.map(owned), nots }))),
      )
    }
    open.todo = []
    return commonTypes(open.atoms).length > 0 && !this.#clashes(open.atoms)
  }

  #forks(part: Part): Choice[][] {
    const { schema, path } = part
    const forks: Choice[][] = []
    if (schema.anyOf !== undefined) forks.push(partsOf(schema.anyOf, `${path}.anyOf`).map(only))
    if (schema.oneOf !== undefined) {
      const all = partsOf(schema.oneOf, `${path}.oneOf`)
      const exclusive = this.#isExclusive(part)
      if (!exclusive) this.#budget.spend(path, all.length * all.length)
      const others = (i: number) =>
        exclusive ? [] : all.filter((_, j) => j !== i).map((other) => ({ part: other, by: part, keyword: 'oneOf' }))
      forks.push(all.map((one, i) => ({ parts: [one], nots: others(i) })))
    }
    if (schema.if !== undefined && (schema.then !== undefined || schema.else !== undefined)) {
      const condition = partOf(schema.if, `${path}.if`)
      forks.push([
        { parts: [condition, partOf(schema.then, `${path}.then`)], nots: [] },
        { parts: [partOf(schema.else, `${path}.else`)], nots: [{ part: condition, by: part, keyword: 'if' }] },
      ])
    }
    for (const key of ['dependentRequired', 'dependentSchemas', 'dependencies']) {
      for (const [name, needed] of entriesOf(schema, key)) {
        const then = Array.isArray(needed)
          ? this.#derived.part(part, `${key} ${name}`, () => ({ required: needed }))
          : partOf(needed, `${path}.${key}.${name}`)
        forks.push([
          only(this.#derived.part(part, `without ${name}`, () => ({ properties: record(name, false) }))),
          { parts: [this.#derived.part(part, `with ${name}`, () => ({ required: [name] })), then], nots: [] },
        ])
      }
    }
    return forks
  }

  /** True where a property has to be there and may have none of the values that it may have elsewhere. */
  #clashes(atoms: readonly Part[]): boolean {
    if (atoms.length < 2 || !commonTypes(atoms).every((type) => type === 'object')) return false
    const required = new Set(atoms.flatMap(({ schema }) => textsOf(schema.required)))
    for (const name of required) {
      this.#budget.spend(atoms[0]?.path ?? '', atoms.length / ATOMS_A_STEP)
      let common: ReadonlySet<string> | undefined
      for (const { schema } of atoms) {
        const given = entryOf(schema, 'properties', name)
        if (given === false) return true
        const values = isObject(given) ? this.valuesOf(given) : undefined
        if (values === undefined) continue
        const before: ReadonlySet<string> | undefined = common
        common = before === undefined ? values : new Set([...values].filter((one) => before.has(one)))
        if (common.size === 0) return true
      }
    }
    return false
  }

  /** The values that a schema names, or the one that it refers to; undefined where it names none. */
  valuesOf(schema: Schema): ReadonlySet<string> | undefined {
    const target = this.#source.target(schema)?.schema
    const named = target === undefined || schema.const !== undefined || schema.enum !== undefined ? schema : target
    if (named.const === undefined && named.enum === undefined) return undefined
    const known = this.#values.get(named)
    if (known !== undefined) return known
    const values = new Set((named.const === undefined ? listOf(named.enum) : [named.const]).map(canonical))
    this.#values.set(named, values)
    return values
  }
}

/** The types that all schemas name. */
export function commonTypes(atoms: readonly Part[]): Type[] {
  let common: Type[] = TYPES.filter((type) => type !== 'integer')
  for (const { schema } of atoms) {
    const named = namedTypes(schema)
    if (named === undefined) continue
    const whole = common.includes('number') && !named.includes('number') && named.includes('integer')
    common = common.filter((type) => includesType(named, type))
    if (whole) common.push('integer')
  }
  return common
}

export function record(name: string, value: unknown): Schema {
  return Object.fromEntries([[name, value]])
}

function only(part: Part): Choice {
  return { parts: [part], nots: [] }
}
