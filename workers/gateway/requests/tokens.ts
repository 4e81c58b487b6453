import { type InputOf, MeshError, type ResponseOf } from '../../../lib/protocol/index.js'
import { isRetriable } from './placement.js'
import type { RequestsParts, Tokenizer } from './ports.js'
import type { Candidate } from './slot.js'
import type { RequestContext } from './state.js'

/** Texts that one user may have tokenized at a time: nobody else shall wait for them. */
const MOST_OF_USER = 4
/** Requests of one user whose prompts wait to be counted. */
const MOST_WAITING = 64
const RETRY_MS = 500
/** On how many processors one of them is tried. */
const MAX_ATTEMPTS = 3

type Asked = InputOf<'processor.tokens'>
/** What is asked of whichever model the caller means. */
export type TokensAsked = Asked extends infer One ? (One extends Asked ? Omit<One, 'model'> : never) : never
export type TokensTold = ResponseOf<'processor.tokens'>

type Parts = Pick<RequestsParts, 'catalogue' | 'limiter'> & {
  /** The processor with this public key, while it is linked. */
  processorAt: (publicKey: string) => Tokenizer | undefined
  /** Processors that have a model. */
  candidates: (model: string) => Candidate[]
}

/**
 * Counts and tells tokens. It takes no slot, waits in no queue and uses none of a caller's tokens; a request it is, for
 * the limits of requests.
 */
export class Tokens {
  readonly #parts: Parts
  readonly #ofUser = new Map<string, number>()
  readonly #waiting: { user: string; begin: () => void }[] = []

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /**
   * Asks for a caller, within its limits.
   * @param modelName absent: the mesh's default
   * @throws MeshError MODEL_NOT_FOUND, FORBIDDEN, RATE_LIMITED, QUOTA_EXCEEDED, and as `told`
   */
  async ask(modelName: string | undefined, asked: TokensAsked, context: RequestContext): Promise<TokensTold> {
    const { principal } = context
    const { name } = this.#parts.catalogue.model(modelName)
    const under = this.#ofUser.get(principal.user) ?? 0
    if (under >= MOST_OF_USER) {
      throw MeshError.RATE_LIMITED(
        `The user ${principal.user} has ${under} texts being tokenized; at most ${MOST_OF_USER} are at a time`,
        { retryAfterMs: RETRY_MS },
      )
    }
    const reservation = this.#parts.limiter.admit(principal, name, { promptTokens: 0, maxTokens: 0 })
    this.#begin(principal.user)
    try {
      return await this.told(name, asked, context)
    } finally {
      reservation.settle(0)
      this.#end(principal.user)
    }
  }

  /**
   * Lets prompts be counted for a request that is yet to be made, which alone counts for its caller's limits. One whose
   * user has many under way waits for its turn.
   * @throws MeshError MODEL_NOT_FOUND, FORBIDDEN, RATE_LIMITED, QUOTA_EXCEEDED, CANCELLED, and what `work` throws
   */
  async counting<T>(
    modelName: string | undefined,
    context: RequestContext,
    work: (told: (asked: TokensAsked) => Promise<TokensTold>) => Promise<T>,
  ): Promise<T> {
    const { user } = context.principal
    const { name } = this.#parts.catalogue.model(modelName)
    const reservation = this.#parts.limiter.admit(context.principal, name, { promptTokens: 0, maxTokens: 0 })
    try {
      await this.#turn(user, context.signal)
      try {
        return await work((asked) => this.told(name, asked, context))
      } finally {
        this.#end(user)
      }
    } finally {
      reservation.withdraw()
    }
  }

  /**
   * The most tokens of prompt plus answer at every processor that has the model loaded.
   * @returns undefined while none has
   * @throws MeshError MODEL_NOT_FOUND
   */
  contextLength(modelName: string | undefined): number | undefined {
    const { name } = this.#parts.catalogue.model(modelName)
    const known = this.#parts.candidates(name).flatMap(({ contextLength }) => contextLength ?? [])
    return known.length === 0 ? undefined : Math.min(...known)
  }

  /** @throws MeshError RATE_LIMITED, CANCELLED */
  #turn(user: string, signal: AbortSignal): Promise<void> {
    if ((this.#ofUser.get(user) ?? 0) < MOST_OF_USER) {
      this.#begin(user)
      return Promise.resolve()
    }
    const waiting = this.#waiting.reduce((sum, one) => sum + (one.user === user ? 1 : 0), 0)
    if (waiting >= MOST_WAITING) {
      throw MeshError.RATE_LIMITED(`${waiting} requests of the user ${user} wait for their prompts to be counted`, {
        retryAfterMs: RETRY_MS,
      })
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(one), 1)
        reject(MeshError.CANCELLED('The caller went away'))
      }
      const begin = (): void => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const one = { user, begin }
      if (signal.aborted) return reject(MeshError.CANCELLED('The caller went away'))
      this.#waiting.push(one)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  #begin(user: string): void {
    this.#ofUser.set(user, (this.#ofUser.get(user) ?? 0) + 1)
  }

  #end(user: string): void {
    const left = (this.#ofUser.get(user) ?? 1) - 1
    if (left === 0) this.#ofUser.delete(user)
    else this.#ofUser.set(user, left)
    const at = this.#waiting.findIndex((one) => one.user === user)
    for (const { begin } of at === -1 ? [] : this.#waiting.splice(at, 1)) {
      this.#begin(user)
      begin()
    }
  }

  /**
   * The same for a request that was let in already.
   * @throws MeshError NO_PROCESSOR, what the last processor said, BAD_REQUEST, CONTEXT_LENGTH_EXCEEDED, CANCELLED
   */
  async told(
    model: string,
    asked: TokensAsked,
    { requestId, signal }: Pick<RequestContext, 'requestId' | 'signal'>,
  ): Promise<TokensTold> {
    // Whoever has it loaded first, and not always the same one.
    const candidates = this.#parts
      .candidates(model)
      .map((candidate) => ({ candidate, order: (candidate.loaded ? 0 : 1) + Math.random() }))
      .sort((a, b) => a.order - b.order)
    let failure: MeshError | undefined
    for (const { candidate } of candidates.slice(0, MAX_ATTEMPTS)) {
      const processor = this.#parts.processorAt(candidate.id)
      if (processor === undefined) continue
      try {
        return await processor.tokens({ ...asked, model }, { requestId, signal })
      } catch (err) {
        failure = MeshError.from(err)
        if (signal.aborted || !(failure.code === 'BUSY' || isRetriable(failure))) throw failure
      }
    }
    throw failure ?? MeshError.NO_PROCESSOR(`No processor that has ${model} is connected now`, { retryAfterMs: 2000 })
  }
}
