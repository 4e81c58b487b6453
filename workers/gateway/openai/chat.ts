import type { FastifyReply } from 'fastify'
import { AnswerCollector, type Finish, type ToolCallDelta } from '../../../lib/protocol/index.js'
import { type Call, streamed } from '../http/index.js'
import type { AnswerEvent } from '../requests/index.js'
import { frameOf } from './frame.js'
import {
  type CallStyle,
  chatCompletion,
  chatFinishReason,
  chatLogprobs,
  cutOf,
  type Frame,
  totalUsage,
  usageObject,
} from './objects.js'
import type { DoorOptions } from './options.js'
import type { PreparedBody } from './prepare.js'
import { ownerOf } from './response-records.js'
import { runAll, toldPlace } from './run.js'
import { chatDraft } from './stored-chats.js'
import { choicesOf } from './to-inference.js'

/** `POST /v1/chat/completions`. */
export async function chat(
  { requests, catalogue, stored }: DoorOptions,
  { request, n, style, streams, includesUsage, wantsLogprobs, words, record }: PreparedBody<'chat'>,
  call: Call,
  reply: FastifyReply,
): Promise<unknown> {
  const choices = choicesOf(request, n).map((one, index) => ({ request: one, index }))
  const frame = frameOf('chatcmpl-', catalogue, request.model, call)
  const createdAt = Date.now()
  const collecting = choices.map((choice) => ({ ...choice, collected: new AnswerCollector() }))
  /** What an answer says besides: that it is not stored, where it should be. */
  const kept = async (answers: readonly ((typeof collecting)[number] & { finish: Finish })[]): Promise<object> => {
    if (record === undefined) return {}
    const completion = chatCompletion(frame, answers, style, wantsLogprobs)
    const draft = chatDraft(completion, record, call.requestId, createdAt)
    return (await stored.local.put(ownerOf(call), draft)) ? {} : { store: false }
  }

  if (!streams) {
    const answers = await runAll(requests, collecting, call, words, (event, { collected }) => collected.add(event))
    return { ...chatCompletion(frame, answers, style, wantsLogprobs), ...(await kept(answers)) }
  }

  const chunks = new ChatChunks(frame, style, wantsLogprobs, includesUsage)
  return streamed(reply, call, async (stream) => {
    const answers = await runAll(requests, collecting, call, words, (event, { index, collected }) => {
      if (toldPlace(event, (text) => stream.comment(text))) return
      if (record !== undefined) collected.add(event)
      for (const chunk of chunks.of(index, event)) stream.data(chunk)
    })
    chunks.add(await kept(answers))
    for (const { index, finish } of answers) {
      for (const chunk of chunks.last(index, finish)) stream.data(chunk)
    }
    const finishes = answers.map(({ finish }) => finish)
    if (chunks.includesUsage) stream.data(chunks.usage(usageObject(totalUsage(finishes, finishes.length))))
    stream.data('[DONE]')
  })
}

/** The events of a streamed chat as chunks, in JSON. */
class ChatChunks {
  readonly includesUsage: boolean
  #frame: object
  readonly #style: CallStyle
  readonly #wantsLogprobs: boolean
  /** The choices whose role has been told. */
  readonly #begun = new Set<number>()

  constructor(frame: Frame, style: CallStyle, wantsLogprobs: boolean, includesUsage: boolean) {
    this.#frame = { ...frame, object: 'chat.completion.chunk', service_tier: 'default' }
    this.#style = style
    this.#wantsLogprobs = wantsLogprobs
    this.includesUsage = includesUsage
  }

  /** Has the chunks from here on say something more. */
  add(fields: object): void {
    this.#frame = { ...this.#frame, ...fields }
  }

  *of(choice: number, event: AnswerEvent): Generator<string> {
    if (event.type !== 'tokens') return
    const { text, logprobs, calls = [] } = event
    // Until something is said it is open whether the answer has a content.
    if (text === '' && calls.length === 0) return
    yield* this.#role(choice, text === '' ? null : '')
    const told = this.#wantsLogprobs && logprobs?.length ? chatLogprobs(logprobs) : null
    if (text !== '') yield this.#chunk(choice, { content: text }, told)
    for (const call of calls) yield this.#chunk(choice, this.#call(call))
  }

  #call({ call: index, id, name, arguments: args }: ToolCallDelta): object {
    const called = { ...(name !== undefined && { name }), arguments: args }
    if (this.#style === 'function') return { function_call: called }
    return { tool_calls: [{ index, ...(id !== undefined && { id, type: 'function' }), function: called }] }
  }

  *last(choice: number, finish: Finish): Generator<string> {
    yield* this.#role(choice, '')
    const ended = { finish_reason: chatFinishReason(finish.reason, this.#style), ...cutOf(finish) }
    yield this.#chunk(choice, {}, null, ended)
  }

  usage(usage: object): string {
    return JSON.stringify({ ...this.#frame, choices: [], usage })
  }

  *#role(choice: number, content: string | null): Generator<string> {
    if (this.#begun.has(choice)) return
    this.#begun.add(choice)
    const told = this.#wantsLogprobs && content !== null ? chatLogprobs([]) : null
    yield this.#chunk(choice, { role: 'assistant', content, refusal: null }, told)
  }

  #chunk(
    index: number,
    delta: object,
    logprobs: object | null = null,
    ended: object = { finish_reason: null },
  ): string {
    const choices = [{ index, delta, logprobs, ...ended }]
    return JSON.stringify({ ...this.#frame, choices, ...(this.includesUsage && { usage: null }) })
  }
}
