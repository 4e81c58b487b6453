import {
  addCallPiece,
  type FinishReason,
  type InferenceRequest,
  type JournalRecord,
  type Model,
  type TokenBatch,
  type ToolCall,
  type Usage,
} from '../../../lib/protocol/index.js'
import type { Principal } from '../../../lib/store/index.js'
import { mostPromptTokens } from './demand.js'
import type { EchoedSoFar } from './echo.js'
import type { Reservation } from './limiter.js'

/** Whose request it is, and how it is stopped. */
export interface RequestContext {
  readonly requestId: string
  readonly principal: Principal
  readonly signal: AbortSignal
}

/** What is known of a request from its admission to its settlement: its journal record is made of it. */
export interface RequestState {
  readonly kind: JournalRecord['kind']
  readonly context: RequestContext
  readonly model: Model
  /** The tokens it may use at most, held against the limits of its key and user until it is settled. */
  readonly reservation: Reservation
  /** When it came, in milliseconds since the epoch. */
  readonly arrivedAt: number
  /** The same by the clock for durations. */
  readonly startedMs: number
  queueMs: number
  firstTokenMs: number | undefined
  /** How often it was given to a processor. */
  placements: number
  /** Name of the processor that has it, or had it last. */
  processor: string | undefined
  /** Public keys of the processors that failed it. */
  readonly failed: Set<string>
  /** True once an engine ended while it worked on this request among others. */
  suspect: boolean
  /** True once the caller has been told any of the answer: nobody can begin it anew from then on. */
  begun: boolean
  usage: Usage
  /** True once the journal has its record. */
  recorded: boolean
}

/**
 * A generation under way: with what it was asked and what has been told of its answer, all that is needed to go on with
 * it elsewhere.
 */
export interface GenerationState extends RequestState {
  /** As processors get it: with the model's name, and with the reservation's bound where the caller set none. */
  readonly request: InferenceRequest & { model: string }
  readonly told: ToldAnswer
}

/** What the caller has been told of an answer. */
export interface ToldAnswer {
  /** Every token, in order. */
  readonly ids: number[]
  /** Characters of text. Fewer than the tokens have while a character or a possible stop string is incomplete. */
  textChars: number
  /** The calls of tools, the last of which may be open still. */
  readonly calls: ToolCall[]
  /** Of the prompt, where it is echoed. That another processor can tell, too. */
  readonly echo: EchoedSoFar
}

/** Makes the state of a request that was let in that of a generation: the same one, for a copy of it is dear. */
export function generationState(admitted: RequestState, request: InferenceRequest): GenerationState {
  const maxTokens = admitted.reservation.maxTokens ?? request.maxTokens
  return Object.assign(admitted, {
    request: { ...request, model: admitted.model.name, maxTokens },
    told: { ids: [], textChars: 0, calls: [], echo: { ids: 0, chars: 0 } },
  })
}

/** Nothing used yet. */
export const NO_TOKENS: Readonly<Usage> = { promptTokens: 0, cachedTokens: 0, completionTokens: 0 }

/**
 * Notes what a processor says it has used. No more than the request can have come to is believed: a prompt has no more
 * tokens than its text and the model's context allow, an answer no more than were told or asked for.
 */
export function heed(generation: GenerationState, { promptTokens, cachedTokens, completionTokens }: Usage): void {
  const { request, told, model } = generation
  const prompt = Math.min(promptTokens, mostPromptTokens(request), model.contextLength)
  generation.usage = {
    promptTokens: prompt,
    cachedTokens: Math.min(cachedTokens, prompt),
    completionTokens: Math.max(told.ids.length, Math.min(completionTokens, request.maxTokens ?? model.contextLength)),
  }
}

/** Adds a batch to what the caller has been told. */
export function addBatch({ told, usage }: GenerationState, batch: TokenBatch): void {
  for (const id of batch.ids) told.ids.push(id)
  told.textChars += batch.text.length
  for (const piece of batch.calls ?? []) addCallPiece(told.calls, piece)
  usage.completionTokens = Math.max(usage.completionTokens, told.ids.length)
}

/** Whether an answer has ended because a budget had no more: the caller set no bound, and the model had not ended. */
export function isCutByBudget({ reservation, told }: GenerationState, reason: FinishReason): boolean {
  const { isBoundByBudget, maxTokens } = reservation
  return reason === 'length' && isBoundByBudget && maxTokens !== undefined && told.ids.length >= maxTokens
}

/** Tokens that the request has used so far. */
export function tokensUsed({ usage }: RequestState): number {
  return usage.promptTokens + usage.completionTokens
}
