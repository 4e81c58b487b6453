import { type Load, MeshError, type Model, type ModelLoad } from '../../lib/protocol/index.js'
import type { Candidate } from './requests/index.js'

/** Models whose names an error lists. */
const MOST_NAMES = 20

/** A link to a processor, as far as the catalogue looks at it. */
export interface ProcessorLink {
  readonly publicKey: string
  readonly hello: { readonly name: string } | undefined
  readonly load: Load | undefined
}

export interface CatalogueOptions<L extends ProcessorLink> {
  /** The models of the directory, by name. */
  models: ReadonlyMap<string, Model>
  /** The links to processors that can be given work. */
  processors: () => readonly L[]
  /** The model of requests that name none; undefined where there is none yet. */
  defaultModel: () => string | undefined
  /** Whether a processor may be given a model's requests: a guest only those that were approved for it. */
  mayServe: (publicKey: string, model: string) => boolean
}

/** A model, the processors that can serve it, and whether it is the one of requests that name none. */
export type ListedModel = Model & { processors: string[]; default?: true }

/** Which models the mesh has, and which of the processors linked to this gateway can serve each. */
export class Catalogue<L extends ProcessorLink> {
  readonly #options: CatalogueOptions<L>

  constructor(options: CatalogueOptions<L>) {
    this.#options = options
  }

  /** The model that a request with this name gets; undefined where the mesh has none. */
  find(name: string | undefined): Model | undefined {
    return this.#options.models.get(this.#wanted(name) ?? '')
  }

  /** The same. @throws MeshError MODEL_NOT_FOUND naming those there are */
  model(name: string | undefined): Model {
    const model = this.find(name)
    if (model !== undefined) return model
    throw MeshError.MODEL_NOT_FOUND(this.missing(name), { param: 'model' })
  }

  /** What to say of a model that is not there: which there are. */
  missing(name: string | undefined): string {
    const known = this.#names().slice(0, MOST_NAMES).join(', ')
    if (known === '') return 'This mesh has no model yet: start a processor, or add one with `infermesh models add`'
    if (name !== undefined) return `There is no model ${JSON.stringify(name)}; this mesh has ${known}`
    const byDefault = this.#options.defaultModel()
    const why =
      byDefault === undefined
        ? 'has no default model'
        : `has ${JSON.stringify(byDefault)} as default model, which is gone`
    return `This mesh ${why}: name one of ${known}, or set another with \`infermesh models default\``
  }

  /** Every model, by name, and the processors that can serve it. */
  models(): ListedModel[] {
    const byDefault = this.#options.defaultModel()
    return [...this.#options.models.values()]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map((model) => ({
        ...model,
        processors: this.processorsWith(model.name).map(nameOf),
        ...(model.name === byDefault && { default: true }),
      }))
  }

  /** Why no model can be served now, for people; undefined where one can. */
  get lacking(): string | undefined {
    const reasons = new Set<string>()
    for (const model of this.#names()) {
      for (const { link, load } of this.#having(model)) {
        if (load.state === 'loaded' || load.state === 'available') return undefined
        reasons.add(
          `${model} at ${nameOf(link)} is ${load.state}${load.reason === undefined ? '' : `: ${load.reason}`}`,
        )
      }
    }
    if (reasons.size === 0) return 'no processor that has a model is connected'
    return [...reasons].slice(0, MOST_NAMES).join('; ')
  }

  /** Processors that can serve the very file that the directory names, with their slots for it. */
  candidates(model: string): Candidate[] {
    return this.#able(model).map(({ candidate }) => candidate)
  }

  /** Links to the same. */
  processorsWith(model: string): L[] {
    return this.#able(model).map(({ link }) => link)
  }

  /**
   * Processors that say they have a model of this name, in whatever state and whichever file: those that are to forget it.
   * @param processor the name of the only one that is
   */
  processorsNaming(model: string, processor: string | undefined): L[] {
    return this.#options
      .processors()
      .filter((link) => processor === undefined || nameOf(link) === processor)
      .filter((link) => link.load?.models.some(({ name }) => name === model))
  }

  /**
   * The processor with this name; the only one there is where none is named.
   * @throws MeshError NOT_FOUND, NO_PROCESSOR, BAD_REQUEST when there are several and none was named
   */
  processor(name: string | undefined): L {
    const links = this.#options.processors()
    const names = links.map(nameOf).join(', ')
    if (name !== undefined) {
      const named = links.find((link) => nameOf(link) === name)
      if (named !== undefined) return named
      throw MeshError.NOT_FOUND(`No processor named ${name} is connected; connected: ${names || 'none'}`, {
        param: 'processor',
      })
    }
    const [only, ...others] = links
    if (only === undefined) throw MeshError.NO_PROCESSOR('No processor is connected')
    if (others.length === 0) return only
    throw MeshError.BAD_REQUEST(`This mesh has several processors: say which with --processor (${names})`, {
      param: 'processor',
    })
  }

  #wanted(name: string | undefined): string | undefined {
    return name ?? this.#options.defaultModel()
  }

  #names(): string[] {
    return [...this.#options.models.keys()].sort()
  }

  #able(model: string): { link: L; candidate: Candidate }[] {
    return this.#having(model).flatMap(({ link, load: { slots, state, contextLength } }) => {
      const loaded = state === 'loaded'
      const candidate = { id: link.publicKey, slots: Math.max(1, slots), loaded, ...(loaded && { contextLength }) }
      return state === 'failed' ? [] : [{ link, candidate }]
    })
  }

  /** The processors that work and have this model's very file, whether they can use it or not. */
  #having(model: string): { link: L; load: ModelLoad }[] {
    const hash = this.#options.models.get(model)?.hash
    return this.#options.processors().flatMap((link) => {
      if (link.load?.state !== 'ready' || !this.#options.mayServe(link.publicKey, model)) return []
      const load = link.load.models.find(({ name, hash: has }) => name === model && has === hash)
      return load === undefined ? [] : [{ link, load }]
    })
  }
}

/** A processor's name; empty before it has said hello. */
export function nameOf({ hello }: ProcessorLink): string {
  return hello?.name ?? ''
}
