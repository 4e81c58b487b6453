import type { ChatMessage, Finish, TokenLogprob, ToolCall, ToolCallDelta, Usage } from '../../../lib/protocol/index.js'
import type { AnswerEvent } from '../requests/index.js'
import type { ResponseBody } from './bodies.js'
import { chatLogprobs, cutOf, type Frame } from './objects.js'

interface MessageItem {
  id: string
  type: 'message'
  status: string
  role: 'assistant'
  content: { type: 'output_text'; text: string; annotations: never[]; logprobs: object[] }[]
}
interface CallItem {
  id: string
  type: 'function_call'
  status: string
  call_id: string
  name: string
  arguments: string
}
type OutputItem = MessageItem | CallItem

/** A response object. */
export interface Answered {
  id: string
  model: string
  [field: string]: unknown
}

type Emit = (type: string, fields: object) => void

/** Builds one response out of the events of its generation, and tells each step as OpenAI's stream events. */
export class ResponseBuilder {
  readonly id: string
  readonly #base: { model: string; [field: string]: unknown }
  readonly #emit: Emit
  readonly #suffix: string
  readonly #output: OutputItem[] = []
  /** The item that is being written. */
  #open: OutputItem | undefined
  #call = -1
  #begun = false
  #cut = {}
  /** True once a processor has it. */
  #started = false

  constructor(frame: Frame, body: ResponseBody, emit: Emit = () => {}) {
    this.id = frame.id
    this.#suffix = frame.id.replace(/^resp_/, '')
    this.#emit = emit
    this.#base = {
      id: frame.id,
      object: 'response',
      created_at: frame.created,
      background: body.background === true,
      instructions: body.instructions ?? null,
      max_output_tokens: body.max_output_tokens ?? null,
      max_tool_calls: null,
      model: frame.model,
      parallel_tool_calls: body.parallel_tool_calls ?? true,
      previous_response_id: body.previous_response_id ?? null,
      prompt_cache_key: body.prompt_cache_key ?? null,
      reasoning: { effort: null, summary: null },
      safety_identifier: body.safety_identifier ?? null,
      service_tier: 'default',
      store: body.store ?? true,
      temperature: body.temperature ?? null,
      text: { format: body.text?.format ?? { type: 'text' } },
      tool_choice: body.tool_choice ?? 'auto',
      tools: (body.tools ?? []).map((tool) => ({ description: null, parameters: null, strict: true, ...tool })),
      top_logprobs: body.top_logprobs ?? 0,
      top_p: body.top_p ?? null,
      truncation: body.truncation ?? 'disabled',
      user: body.user ?? null,
      metadata: body.metadata ?? {},
    }
  }

  /** What the model said, and whom it called: a message for a conversation that goes on. */
  get message(): Extract<ChatMessage, { role: 'assistant' }> {
    let content = ''
    const toolCalls: ToolCall[] = []
    for (const item of this.#output) {
      if (item.type === 'message') content += item.content.map(({ text }) => text).join('')
      else toolCalls.push({ id: item.call_id, name: item.name, arguments: item.arguments })
    }
    return { role: 'assistant', content, ...(toolCalls.length > 0 && { toolCalls }) }
  }

  add(event: AnswerEvent): void {
    this.begin()
    this.#started ||= event.type !== 'queued'
    if (event.type !== 'tokens') return
    if (event.text !== '' || event.logprobs?.length) this.#text(event.text, event.logprobs)
    for (const call of event.calls ?? []) this.#toolCall(call)
  }

  /** Tells that the response was made; done with its first event. */
  begin(): void {
    if (this.#begun) return
    this.#begun = true
    const response = this.#response('in_progress')
    this.#emit('response.created', { response })
    this.#emit('response.in_progress', { response })
  }

  finish({ reason, usage, cutBy }: Finish): { response: Answered; type: string } {
    this.begin()
    this.#cut = cutOf({ cutBy })
    const status = reason === 'length' ? 'incomplete' : 'completed'
    // An answer without a word is a message all the same.
    if (this.#output.length === 0) this.#message()
    this.#close(status)
    const response = this.#response(status, usage)
    return { response, type: `response.${status}` }
  }

  fail(code: string, message: string): Answered {
    return { ...this.#ended('failed'), error: { code, message } }
  }

  /** The response, once its maker was told to stop. */
  cancel(): Answered {
    return this.#ended('cancelled')
  }

  /** What there is of it so far. */
  snapshot(): Answered {
    return { ...this.#response(this.#started ? 'in_progress' : 'queued'), output: this.#output }
  }

  #ended(status: string): Answered {
    for (const item of this.#output) if (item.status === 'in_progress') item.status = 'incomplete'
    return this.#response(status)
  }

  #response(status: string, usage?: Usage): Answered {
    return {
      ...this.#base,
      id: this.id,
      status,
      error: null,
      incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens', ...this.#cut } : null,
      output: status === 'in_progress' ? [] : this.#output,
      usage: usage === undefined ? null : usageOf(usage),
    }
  }

  #message(): MessageItem {
    if (this.#open?.type === 'message') return this.#open
    this.#close('completed')
    const item: MessageItem = {
      id: `msg_${this.#suffix}_${this.#output.length}`,
      type: 'message',
      status: 'in_progress',
      role: 'assistant',
      content: [],
    }
    this.#add(item)
    const part: MessageItem['content'][number] = { type: 'output_text', text: '', annotations: [], logprobs: [] }
    this.#emit('response.content_part.added', { ...this.#partPlace(item), part: { ...part } })
    item.content.push(part)
    return item
  }

  #text(text: string, given: readonly TokenLogprob[] | undefined): void {
    const item = this.#message()
    const [part] = item.content
    const logprobs = given === undefined ? [] : chatLogprobs(given).content
    if (part !== undefined) {
      part.text += text
      part.logprobs.push(...logprobs)
    }
    this.#emit('response.output_text.delta', { ...this.#partPlace(item), delta: text, logprobs })
  }

  #toolCall({ call, id, name, arguments: delta }: ToolCallDelta): void {
    if (call !== this.#call || this.#open?.type !== 'function_call') {
      this.#close('completed')
      this.#call = call
      this.#add({
        id: `fc_${this.#suffix}_${this.#output.length}`,
        type: 'function_call',
        status: 'in_progress',
        call_id: id ?? '',
        name: name ?? '',
        arguments: '',
      })
    }
    const item = this.#open
    if (item?.type !== 'function_call' || delta === '') return
    item.arguments += delta
    this.#emit('response.function_call_arguments.delta', { ...this.#place(item), delta })
  }

  #add(item: OutputItem): void {
    this.#output.push(item)
    this.#open = item
    const shown = item.type === 'message' ? { ...item, content: [] } : { ...item }
    this.#emit('response.output_item.added', { output_index: this.#output.length - 1, item: shown })
  }

  #close(status: string): void {
    const item = this.#open
    if (item === undefined) return
    this.#open = undefined
    item.status = status
    if (item.type === 'function_call') {
      this.#emit('response.function_call_arguments.done', {
        ...this.#place(item),
        name: item.name,
        arguments: item.arguments,
      })
    } else {
      const [part] = item.content
      const place = this.#partPlace(item)
      this.#emit('response.output_text.done', { ...place, text: part?.text ?? '', logprobs: part?.logprobs ?? [] })
      this.#emit('response.content_part.done', { ...place, part })
    }
    this.#emit('response.output_item.done', { output_index: this.#output.indexOf(item), item })
  }

  #place(item: OutputItem) {
    return { item_id: item.id, output_index: this.#output.indexOf(item) }
  }

  #partPlace(item: OutputItem) {
    return { ...this.#place(item), content_index: 0 }
  }
}

function usageOf({ promptTokens, cachedTokens, completionTokens }: Usage) {
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: cachedTokens, cache_write_tokens: 0 },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: promptTokens + completionTokens,
  }
}
