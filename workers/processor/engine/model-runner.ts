import { MeshError, messageOf } from '../../../lib/errors/index.js'
import type { InferenceRequest, TokenBatch, TokensRequest, TokensResult, Usage } from '../../../lib/protocol/index.js'
import { constraintFor } from './constraint.js'
import { Counting } from './counting.js'
import { Embedder } from './embed.js'
import { type EngineParts, type GenerateJob, generate } from './generate.js'
import { Grammars } from './grammars.js'
import { LogprobFormatter } from './logprobs.js'
import { useMasks } from './masking.js'
import type { EmbeddingInput, FromEngine, ToEngine } from './messages.js'
import type { LoadedModel } from './model.js'
import { Pacing } from './pace.js'
import { type Prompt, Prompts, textsOf } from './prompt.js'
import { useRawLogprobs } from './raw-logprobs.js'
import { Reader } from './reader.js'
import { isScored, Scorer } from './scoring.js'
import { Slots } from './slots.js'
import { tokensOf } from './spelling.js'
import { Tokenizing } from './tokenizing.js'

interface Job {
  readonly id: number
  readonly stop: AbortController
  readonly signal: AbortSignal
  /** Grows with each piece of work on it. */
  steps: number
  /** Of an embedding: tokens of the texts that were begun. */
  evaluated?: number
  readonly reader: Reader
}

const NO_USAGE = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }

/** Runs the processor's jobs on one loaded model. */
export class ModelRunner {
  readonly #parts: EngineParts
  readonly #slots: Slots
  readonly #prompts: Prompts
  readonly #grammars: Grammars
  readonly #counting: Counting
  readonly #embedder: Embedder
  readonly #tokenizing: Tokenizing
  readonly #jobs = new Map<number, Job>()
  readonly #send: (message: FromEngine) => void
  #ready: { id: number; batch: TokenBatch }[] = []

  /** @throws MeshError MODEL_INVALID where the file's chat template goes over its bounds */
  static async of(loaded: LoadedModel, send: (message: FromEngine) => void): Promise<ModelRunner> {
    return new ModelRunner(loaded, await Prompts.of(loaded.model), send)
  }

  private constructor(
    { llama, model, context, batching, info }: LoadedModel,
    prompts: Prompts,
    send: (message: FromEngine) => void,
  ) {
    const { contextLength } = info
    useMasks(context, llama)
    useRawLogprobs(context, model, llama)
    const pacing = new Pacing(context.batchSize)
    const logprobs = new LogprobFormatter(model)
    const scorer = new Scorer(model, batching, logprobs, pacing)
    this.#parts = { model, batching, pacing, contextLength, logprobs, scorer }
    this.#slots = new Slots(context, batching)
    this.#prompts = prompts
    this.#grammars = new Grammars(tokensOf(model))
    this.#counting = new Counting(model)
    this.#embedder = new Embedder(model, info, this.#counting)
    this.#tokenizing = new Tokenizing(model, this.#counting)
    this.#send = send
    batching.onStep = () => this.#flush()
    batching.promptTokens = () => pacing.ofStep
  }

  /** How far each job has come. */
  get steps(): [id: number, steps: number][] {
    return [...this.#jobs.values()].map(({ id, steps }) => [id, steps])
  }

  handle(message: Exclude<ToEngine, { type: 'load' | 'ping' }>): void {
    switch (message.type) {
      case 'generate': {
        const job = { ...newJob(message.id), request: message.request, usage: NO_USAGE }
        this.#begin(job)
        this.#answer(job, this.#generate(job))
        return
      }
      case 'embed': {
        const job = { ...newJob(message.id), evaluated: 0 }
        this.#begin(job)
        this.#answer(job, this.#embed(job, message.input))
        return
      }
      case 'tokenize': {
        const job = newJob(message.id)
        this.#begin(job)
        this.#answer(
          job,
          this.#tokenize(job, message.asked).then((result) => ({ type: 'tokenized', id: job.id, result })),
        )
        return
      }
      case 'cancel': {
        const job = this.#jobs.get(message.id)
        if (job) this.#cancel(job)
        return
      }
      case 'taken':
        this.#jobs.get(message.id)?.reader.taken()
    }
  }

  #begin(job: Job): void {
    this.#jobs.set(job.id, job)
    this.#worksOn(job)
  }

  /** Tells that this thread now works on one job alone. Should nothing be heard any more, it was that one. */
  #worksOn({ id }: Pick<Job, 'id'>): void {
    this.#send({ type: 'at', id })
  }

  /** A generation ends between two steps and says then what it used; a text that is embedded goes on, so it is told at once. */
  #cancel(job: Job): void {
    job.stop.abort()
    if (job.evaluated === undefined) return
    this.#ready.push({ id: job.id, batch: usageAlone({ ...NO_USAGE, promptTokens: job.evaluated }) })
    this.#flush()
  }

  /** Sends how a job ends, behind all its tokens. */
  #answer(job: Job, outcome: Promise<FromEngine>): void {
    outcome
      .catch((err: unknown): FromEngine => {
        const error = MeshError.from(err, 'ENGINE_FAILED', `The engine failed: ${messageOf(err)}`)
        return { type: 'error', id: job.id, error: error.toJSON() }
      })
      .then((last) => {
        this.#jobs.delete(job.id)
        this.#flush()
        this.#send(last)
      })
  }

  async #generate(job: GenerateJob & Job): Promise<FromEngine> {
    const { request } = job
    const prompt = await this.#prompt(job, request)
    const constraint = await constraintFor(request, prompt, this.#grammars, this.#parts.model, job.signal)
    if (request.ignoreEos && constraint) throw endless()
    const slot = this.#slots.take(isScored(request) ? [] : prompt.tokens)
    if (!slot) throw MeshError.BUSY('All slots of this model are busy', { retryAfterMs: 100 })
    try {
      const finish = await generate(this.#parts, job, slot, prompt, constraint, (batch) => this.#tell(job, batch))
      return { type: 'finish', id: job.id, finish }
    } catch (err) {
      const { usage } = job
      if (usage.promptTokens > 0) this.#ready.push({ id: job.id, batch: usageAlone(usage) })
      throw err
    } finally {
      this.#slots.give(slot)
    }
  }

  /** Pieces of a prompt go out one by one, as their reader takes them. */
  #tell({ id, reader, signal }: Job, batch: TokenBatch): Promise<void> | undefined {
    this.#ready.push({ id, batch })
    if (batch.echo === undefined) return undefined
    this.#flush()
    return reader.told(signal)
  }

  async #embed(job: Job, input: EmbeddingInput[]): Promise<FromEngine> {
    const { embeddings, promptTokens } = await this.#embedder.embed(input, job.signal, (tokens) => {
      // They wait for each other: as long as one of them goes on, all do.
      for (const one of this.#jobs.values()) if (!('request' in one)) one.steps++
      if (job.signal.aborted) throw embeddingCancelled(job.evaluated ?? 0)
      job.evaluated = (job.evaluated ?? 0) + tokens
    })
    return { type: 'embedded', id: job.id, embeddings, promptTokens }
  }

  async #tokenize(job: Job, asked: TokensRequest): Promise<TokensResult> {
    const { signal } = job
    const onPart = () => {
      job.steps++
    }
    switch (asked.of) {
      case 'text': {
        const tokens = await this.#tokenizing.tokens(asked.text, asked, signal, onPart)
        const pieces = asked.pieces && { pieces: await this.#tokenizing.pieces(tokens, signal, onPart) }
        return { count: tokens.length, ids: tokens, ...pieces }
      }
      case 'ids':
        return { count: asked.ids.length, text: await this.#tokenizing.text(asked.ids, signal, onPart) }
      case 'chat': {
        const { messages, tools, toolChoice, parallelToolCalls } = asked
        const rest = { sampling: {}, stop: [], format: { type: 'text' as const } }
        const request = { kind: 'chat' as const, messages, tools, toolChoice, parallelToolCalls, ...rest }
        const { tokens } = await this.#prompt(job, request)
        const text = asked.text && { text: await this.#tokenizing.text(tokens, signal, onPart) }
        return { count: tokens.length, contextLength: this.#parts.contextLength, ...text }
      }
    }
  }

  /** @throws MeshError CONTEXT_LENGTH_EXCEEDED, and what the template says; CANCELLED */
  async #prompt(job: Pick<Job, 'id' | 'signal'>, request: InferenceRequest): Promise<Prompt> {
    const { contextLength } = this.#parts
    if (await this.#counting.exceeds(textsOf(request), contextLength, job.signal)) {
      throw tooLong(request, contextLength)
    }
    this.#worksOn(job)
    const prompt = await this.#prompts.render(request)
    if (prompt.tokens.length >= contextLength) throw tooLong(request, contextLength, prompt.tokens.length)
    return prompt
  }

  /** Tokens of one decode step go out as one message, when the next step begins or a job ends. */
  #flush(): void {
    if (this.#ready.length === 0) return
    this.#send({ type: 'tokens', batches: this.#ready })
    this.#ready = []
  }
}

function newJob(id: number): Job {
  const stop = new AbortController()
  return { id, stop, signal: stop.signal, steps: 0, reader: new Reader() }
}

/** At least one token of answer must fit. @param promptTokens absent where more than the context were not counted */
function tooLong(request: InferenceRequest, contextLength: number, promptTokens?: number): MeshError {
  const param = request.kind === 'chat' ? 'messages' : 'prompt'
  const many = promptTokens ?? `more than ${contextLength}`
  return MeshError.CONTEXT_LENGTH_EXCEEDED(
    `The prompt has ${many} tokens, and this model's context is ${contextLength} tokens here, answer included. Shorten the prompt`,
    { ...(promptTokens !== undefined && { promptTokens }), contextLength, param },
  )
}

function endless(): MeshError {
  return MeshError.BAD_REQUEST('ignoreEos: an answer in a format, or with tools, ends where that says', {
    param: 'ignoreEos',
  })
}

function usageAlone(usage: Usage): TokenBatch {
  return { index: 0, ids: [], text: '', usage }
}

function embeddingCancelled(promptTokens: number): MeshError {
  return MeshError.CANCELLED('The embedding was cancelled', { promptTokens })
}
