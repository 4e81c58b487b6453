import { MeshError } from '../../../../lib/errors/index.js'
import { Exclusivity } from './exclusive.js'
import { commonTypes, Derived, Expander, type Keyword, type Not, type State } from './expand.js'
import { assertionsOf } from './forms.js'
import { refuse } from './gbnf.js'
import { isSuggested } from './limited.js'
import { SchemaBudget } from './limits.js'
import type { EnforceMode } from './mode.js'
import { isAlways, isIncomplete, opposites } from './negate.js'
import type { GrammarRules } from './rules.js'
import { includesType, listOf, NEVER, type Part, partsOf, type Schema, type Type, typeOf } from './schema.js'
import { settle } from './settle.js'
import type { Node } from './shape.js'
import type { Source } from './source.js'
import { saysNothing, Validator } from './validate.js'
import { fitsNone, wayOf } from './ways.js'

/** So many steps may one proof take. */
const PROOF_STEPS = 2000
/** So many steps may all proofs of one grammar take. */
const ALL_PROOF_STEPS = 50_000
/** A proof looks so deep. */
const PROOF_DEPTH = 3

export interface Options {
  readonly mode: EnforceMode
  /** Told what is not enforced. */
  readonly onLeftOut: (one: Keyword) => void
  /** True where types that a schema does not name, but has keywords for, are the only ones that are made. */
  readonly hints: boolean
  /** True where members whose names cannot be told apart may have any name and value, in lenient mode. */
  readonly isLoose: boolean
}

/** Makes nodes of schemas: all that applies to a value as one, and for each type what its values are like. */
export class Builder {
  readonly source: Source
  readonly rules: GrammarRules
  readonly budget: SchemaBudget
  readonly derived: Derived
  readonly validator: Validator
  readonly #options: Options
  readonly mode: EnforceMode
  readonly isLoose: boolean
  /** True for a proof that nothing fits: it lets more through than the schemas do, never less. */
  readonly isProof: boolean
  /** Places for values of which too few are known, with the keywords that say so: where none is left, there may be some. */
  readonly coarse: { readonly by: Keyword; readonly node: Node }[] = []
  readonly #expander: Expander
  readonly #exclusivity: Exclusivity
  readonly #nodes = new Map<string, Node>()
  readonly #ids = new Map<Schema, number>()
  readonly #open: Node[] = []
  #proofSteps = 0

  constructor(source: Source, rules: GrammarRules, options: Options, proofOf?: Builder) {
    this.source = source
    this.rules = rules
    this.#options = options
    this.isProof = proofOf !== undefined
    this.mode = options.mode
    this.isLoose = options.isLoose
    this.budget = proofOf ? new SchemaBudget(PROOF_STEPS) : rules.budget
    this.derived = proofOf?.derived ?? new Derived()
    this.validator = new Validator(source, this.budget)
    this.#exclusivity = new Exclusivity(source, this.budget)
    this.#expander = new Expander(source, this.budget, this.derived, (part) =>
      this.isProof ? true : this.#exclusivity.isExclusive(part, this.#expander),
    )
  }

  /** True where what keywords suggest, but do not say, is followed. */
  get hints(): boolean {
    return this.#options.hints && !this.isProof
  }

  /** The node for all that these let through together. It is filled when its turn comes. */
  node(parts: readonly Part[], path: string, depth = 0): Node {
    const apply = new Map(parts.filter((part) => !saysNothing(part)).map((part) => [part.schema, part]))
    const never = apply.get(NEVER)
    const key = never
      ? 'never'
      : [...apply.keys()]
          .map((schema) => this.#idOf(schema))
          .sort((a, b) => a - b)
          .join()
    const known = this.#nodes.get(key)
    if (known !== undefined) return known
    const node: Node = {
      parts: [...apply.values()],
      path,
      depth,
      ways: [],
      why: undefined,
      alive: false,
      rule: undefined,
    }
    this.#nodes.set(key, node)
    if (never !== undefined) node.why = refuse(never.path, 'nothing fits the schema false')
    else if (apply.size === 0) node.ways.push({ kind: 'text', text: 'value' })
    else if (this.isProof && depth > PROOF_DEPTH) node.ways.push({ kind: 'text', text: '""' })
    else this.#open.push(node)
    return node
  }

  /** All nodes, filled and found to be alive or not. @throws MeshError BAD_REQUEST */
  whole(root: readonly Part[], path: string): Node {
    const node = this.node(root, path)
    this.#run()
    settle([...this.#nodes.values()])
    return node
  }

  /** Says that a keyword is not enforced. @throws MeshError BAD_REQUEST in strict mode */
  leaveOut(part: Part, keyword: string, why = 'cannot be enforced here; leave it out'): void {
    if (this.isProof) return
    const origins = this.derived.origins({ ...part, keyword })
    if (this.mode === 'strict') {
      const [{ path, keyword: at } = { path: part.path, keyword }] = origins
      throw refuse(`${path}.${at}`, why)
    }
    for (const one of origins) this.#options.onLeftOut(one)
  }

  #idOf(schema: Schema): number {
    const known = this.#ids.get(schema)
    if (known !== undefined) return known
    this.#ids.set(schema, this.#ids.size)
    return this.#ids.size - 1
  }

  #run(): void {
    for (let node = this.#open.pop(); node !== undefined; node = this.#open.pop()) this.#fill(node)
  }

  #fill(node: Node): void {
    const [part, ...others] = node.parts
    const plain = part && others.length === 0 && part.excluded === undefined ? this.#plainChoices(part) : undefined
    if (plain !== undefined) {
      for (const one of plain) node.ways.push({ kind: 'same', node: this.node([one], one.path, node.depth) })
      return
    }
    const states = this.#expander.expand({ atoms: [], nots: [] }, node.parts)
    if (states.length === 0) node.why = refuse(node.path, 'no value fits all that applies here')
    const unsure = new Set<Not>()
    for (const state of states) this.#addWays(state, node, unsure)
    if (node.ways.length > 0 || unsure.size === 0) return
    // What fits may not be among the opposites that could be found.
    const sure = (nots: readonly Not[]) => nots.filter((not) => !unsure.has(not))
    for (const { atoms, nots } of states) this.#addWays({ atoms, nots: sure(nots) }, node)
    if (node.ways.length > 0) for (const not of unsure) this.#leaveOutNot(not)
  }

  /** The schemas that a schema is a choice of, where it says nothing else. */
  #plainChoices(part: Part): Part[] | undefined {
    const { schema, path } = part
    const [keyword, ...more] = assertionsOf(schema)
    if (keyword === undefined || more.length > 0) return undefined
    const target = this.source.target(schema)
    if (target !== undefined) return [target]
    if (keyword === 'anyOf') return partsOf(schema.anyOf, `${path}.anyOf`)
    const isPlain = keyword === 'oneOf' && (this.isProof || this.#exclusivity.isExclusive(part, this.#expander))
    return isPlain ? partsOf(schema.oneOf, `${path}.oneOf`) : undefined
  }

  /** @param unsure gets each whose opposites are not all known */
  #addWays(state: State, node: Node, unsure = new Set<Not>()): void {
    const values = this.#valuesFor(state)
    if (values !== undefined) {
      if (values.length > 0) node.ways.push({ kind: 'values', values })
      else node.why ??= refuse(node.path, 'none of the values it names fits what else applies')
      return
    }
    const types = commonTypes(state.atoms)
    const isFree = this.hints && state.atoms.every(({ schema }) => schema.type === undefined)
    const hinted = isFree ? types.filter((type) => isSuggested(state.atoms, type)) : []
    for (const type of hinted.length > 0 ? hinted : types) {
      const open = [state]
      for (let one = open.pop(); one !== undefined; one = open.pop()) {
        const [not, ...nots] = one.nots
        if (not === undefined) this.#addWay(type, one.atoms, node)
        else open.push(...this.#without(not, { atoms: one.atoms, nots }, type, node, unsure))
      }
    }
  }

  /** The values that a state names and lets through; undefined where it names none. */
  #valuesFor({ atoms, nots }: State): unknown[] | undefined {
    const lists = atoms
      .filter(({ schema }) => schema.const !== undefined || schema.enum !== undefined)
      .map(({ schema }) => (schema.const === undefined ? listOf(schema.enum) : [schema.const]))
    if (lists.length === 0) return undefined
    const list = lists.reduce((least, one) => (one.length < least.length ? one : least))
    return list.filter((value) => {
      for (const part of atoms) {
        const fits = this.validator.fitsOwn(value, part)
        if (fits === false) return false
        if (fits === undefined) this.#leaveOutUnsure(part)
      }
      if (this.isProof) return true
      return nots.every((not) => {
        const fits = this.validator.fits(value, not.part)
        if (fits === undefined) this.#leaveOutNot(not)
        return fits !== true
      })
    })
  }

  #leaveOutUnsure(part: Part): void {
    for (const keyword of ['format', 'unevaluatedProperties', 'unevaluatedItems']) {
      if (part.schema[keyword] !== undefined) this.leaveOut(part, keyword)
    }
    for (const keyword of ['properties', 'patternProperties', 'additionalProperties', 'items', 'prefixItems']) {
      if (part.schema[keyword] !== undefined) this.leaveOut(part, keyword)
    }
  }

  /** What is left of a state once something must not fit as well. */
  #without(not: Not, rest: State, type: Type, node: Node, unsure: Set<Not>): State[] {
    if (this.isProof) return [rest]
    this.budget.spend(not.part.path, 1)
    const ways = opposites(not.part, type, this.source, this.derived)
    if (isAlways(ways) || this.#isApart(rest.atoms, type, not.part)) return [rest]
    if (ways === undefined) {
      this.#leaveOutNot(not)
      return [rest]
    }
    this.derived.use(not)
    if (isIncomplete(ways)) unsure.add(not)
    return ways
      .flatMap((parts) => this.#expander.expand(rest, parts))
      .flatMap((state) => {
        const values = this.#valuesFor(state)
        if (values === undefined)
          return commonTypes(state.atoms).some((one) => includesType([type], one)) ? [state] : []
        const fitting = values.filter((value) => includesType([type], typeOf(value)))
        if (fitting.length > 0) node.ways.push({ kind: 'values', values: fitting })
        return []
      })
  }

  #leaveOutNot({ by, keyword }: Not): void {
    const why = {
      oneOf:
        'cannot be enforced where a value may fit more than one of its schemas; give each a tag or a type of its own',
      if: 'cannot be enforced where its opposite cannot be said',
    }[keyword]
    this.leaveOut(by, keyword, why)
  }

  /** True where it is proven that no value of a type fits both what is there and a schema. */
  #isApart(atoms: readonly Part[], type: Type, part: Part): boolean {
    if (this.#proofSteps >= ALL_PROOF_STEPS) return false
    const proof = new Builder(this.source, this.rules, this.#options, this)
    try {
      return proof.#isEmpty(atoms, type, part)
    } catch (err) {
      if (err instanceof MeshError) return false
      throw err
    } finally {
      this.#proofSteps += proof.budget.steps
    }
  }

  #isEmpty(atoms: readonly Part[], type: Type, part: Part): boolean {
    const typed = { schema: { type }, path: part.path }
    const node: Node = { parts: [], path: part.path, depth: 0, ways: [], why: undefined, alive: false, rule: undefined }
    for (const state of this.#expander.expand({ atoms: [...atoms, typed], nots: [] }, [part]))
      this.#addWays(state, node)
    this.#run()
    settle([...this.#nodes.values(), node])
    return !node.alive
  }

  #addWay(type: Type, atoms: readonly Part[], node: Node): void {
    try {
      const way = wayOf(this, type, atoms, node)
      if (way !== undefined) node.ways.push(way)
      else node.why ??= refuse(node.path, 'no value fits all that applies here')
    } catch (err) {
      // What costs too much ends it; that nothing fits ends this way alone.
      if (!(err instanceof MeshError) || err.details.limit !== undefined || !fitsNone(this, type, atoms, node.path))
        throw err
      node.why ??= err
    }
  }

  /** The ways of strings that all of these let through: what they name one by one, and expressions for others. */
  textsOf(parts: readonly Part[], path: string): { names: string[]; expressions: string[] } {
    const node: Node = { parts: [], path, depth: 0, ways: [], why: undefined, alive: false, rule: undefined }
    const typed = { schema: { type: 'string' }, path }
    for (const state of this.#expander.expand({ atoms: [typed], nots: [] }, parts)) this.#addWays(state, node)
    return {
      names: node.ways.flatMap((way) => (way.kind === 'values' ? way.values.map(String) : [])),
      expressions: node.ways.flatMap((way) => (way.kind === 'text' ? [way.text] : [])),
    }
  }
}
