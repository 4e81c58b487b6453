import {
  AnswerCollector,
  type GenerateEvent,
  type InferenceResult,
  MeshError,
  type TokenBatch,
} from '../protocol/index.js'

/**
 * An answer under way. Iterate it for its batches of tokens, wait for `result` for the whole, or both: it is read once and kept,
 * so the order does not matter. Leaving a loop early ends the generation, unless `result` was asked for.
 *
 * ```js
 * const answer = mesh.chat({ messages: [{ role: 'user', content: 'Hello' }] })
 * for await (const { text } of answer) process.stdout.write(text)
 * const { finish } = await answer.result
 * ```
 */
export class Answer implements AsyncIterable<TokenBatch> {
  readonly requestId: string
  readonly #events: GenerateEvent[] = []
  readonly #collected = new AnswerCollector()
  readonly #abort: AbortController
  #failure: MeshError | undefined
  #ended = false
  #wanted = false
  #readers = 0
  #wake: () => void = () => {}
  #changed = new Promise<void>((resolve) => (this.#wake = resolve))

  /** Starts to read at once. @param source ends by `finish` or by a throw */
  constructor(
    requestId: string,
    source: (signal: AbortSignal) => AsyncGenerator<GenerateEvent>,
    signal: AbortSignal | undefined,
  ) {
    this.requestId = requestId
    this.#abort = new AbortController()
    const onAbort = () => this.#abort.abort(signal?.reason)
    if (signal?.aborted) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
    void this.#read(source).finally(() => signal?.removeEventListener('abort', onAbort))
  }

  /** The whole answer. Rejects with the MeshError that ended it; what had come by then is in `text`. */
  get result(): Promise<InferenceResult> {
    this.#wanted = true
    return this.#whole()
  }

  /** What has come so far. */
  get text(): string {
    return this.#collected.text
  }

  /** Ends the generation: the engine stops working on it. */
  cancel(): void {
    this.#abort.abort(MeshError.CANCELLED('The answer was cancelled', { requestId: this.requestId }))
  }

  /** Everything that happens, the place in the queue and the processor's name included. @throws MeshError */
  async *events(): AsyncGenerator<GenerateEvent> {
    this.#readers++
    let next = 0
    try {
      while (true) {
        const event = this.#events[next]
        if (event !== undefined) {
          next++
          yield event
        } else if (this.#failure !== undefined) throw this.#failure
        else if (this.#ended) return
        else await this.#changed
      }
    } finally {
      if (--this.#readers === 0 && !this.#wanted && !this.#ended) this.cancel()
    }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TokenBatch> {
    for await (const event of this.events()) {
      if (event.type !== 'tokens') continue
      const { type: _, ...batch } = event
      yield batch
    }
  }

  async #whole(): Promise<InferenceResult> {
    while (!this.#ended) await this.#changed
    if (this.#failure !== undefined) throw this.#failure
    const last = this.#events.at(-1)
    if (last?.type !== 'finish') throw MeshError.INTERNAL('The answer ended without its finish')
    const { type: _, ...finish } = last
    return this.#collected.result(this.requestId, finish)
  }

  async #read(source: (signal: AbortSignal) => AsyncGenerator<GenerateEvent>): Promise<void> {
    const { signal } = this.#abort
    try {
      for await (const event of source(signal)) {
        this.#events.push(event)
        this.#collected.add(event)
        this.#tell()
      }
    } catch (err) {
      this.#failure = cancelReason(signal, this.requestId) ?? MeshError.from(err)
    }
    this.#ended = true
    this.#tell()
  }

  #tell(): void {
    const wake = this.#wake
    this.#changed = new Promise<void>((resolve) => (this.#wake = resolve))
    wake()
  }
}

/** What an aborted signal means to the caller; undefined where it is not aborted. */
export function cancelReason(signal: AbortSignal | undefined, requestId?: string): MeshError | undefined {
  if (signal?.aborted !== true) return undefined
  const reason: unknown = signal.reason
  if (reason instanceof MeshError) return reason
  const details = requestId === undefined ? {} : { requestId }
  return reason instanceof Error && reason.name === 'TimeoutError'
    ? MeshError.TIMEOUT('The time given for the answer is over', details, { cause: reason })
    : MeshError.CANCELLED('The call was cancelled', details, { cause: reason })
}
