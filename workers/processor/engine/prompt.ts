import {
  type ChatHistoryItem,
  type ChatWrapper,
  GeneralChatWrapper,
  type LlamaModel,
  type LlamaText,
  resolveChatWrapper,
  type Token,
} from 'node-llama-cpp'
import { MeshError, messageOf } from '../../../lib/errors/index.js'
import type { ChatMessage, InferenceRequest } from '../../../lib/protocol/index.js'
import { templateWrapper } from './llama-internals.js'
import {
  BoundedTemplate,
  type CallSyntax,
  type ChatRequest,
  checkToolMessages,
  GENERIC_SYNTAX,
  mentionsTools,
  offeredTools,
  ToolTemplate,
  withoutTools,
} from './tools/index.js'
import { asTokens } from './vocabulary.js'

export interface Prompt {
  tokens: Token[]
  /** How many tokens at its beginning no part of the text has asked for. */
  put: number
  /** Tokens that end the answer besides the model's own end-of-generation tokens. */
  stopTokens: ReadonlySet<Token>
  /** Texts with which the chat template ends a turn. */
  stopTexts: string[]
  /** True where the answer continues the prompt's own text and is not a turn of its own. */
  continues: boolean
  /** How the model writes calls of tools; absent where it is offered none. */
  syntax?: CallSyntax
}

/** The longest templates of known models have 30,000 characters. */
const MOST_TEMPLATE_CHARS = 128 * 1024
/** How long all that is tried with a template may take when its model is loaded, and for one prompt. */
const TEMPLATE_LOAD_MS = 5000
const TEMPLATE_PROMPT_MS = 1000
/** What a prompt may have besides four times what the request has: a template may repeat what is said, but not for ever. */
const ADDED_CHARS = 256 * 1024

/** Renders requests to tokens, with the chat template that the model file carries. */
export class Prompts {
  readonly #model: LlamaModel
  readonly #wrapper: ChatWrapper
  /** Absent where the file has none that works. */
  readonly #template: BoundedTemplate | undefined
  /** Null where the model's template knows no tools; absent until a request has some. */
  #toolTemplate: ToolTemplate | null | undefined

  private constructor(model: LlamaModel, wrapper: ChatWrapper, template?: BoundedTemplate) {
    this.#model = model
    this.#wrapper = wrapper
    this.#template = template
  }

  /**
   * Takes the model's own template as it stands. (`resolveChatWrapper` would first compare it with each of the library's
   * own wrappers, which takes most of a second and changes nothing for plain chats.) Without a template that works, the
   * wrapper that fits the model's name.
   * @throws MeshError MODEL_INVALID where the template is too long, or goes over the bounds on its time and its output
   */
  static async of(model: LlamaModel): Promise<Prompts> {
    const source: unknown = model.fileInfo.metadata.tokenizer?.chat_template
    if (typeof source !== 'string' || source.trim() === '') return new Prompts(model, wrapperByName(model, ''))
    if (source.length > MOST_TEMPLATE_CHARS) {
      throw MeshError.MODEL_INVALID(
        `The model's chat template has ${source.length} characters; at most ${MOST_TEMPLATE_CHARS} are taken`,
      )
    }
    const template = new BoundedTemplate(source)
    await template.ready
    const options = {
      template: source,
      tokenizer: model.tokenizer,
      functionCallMessageTemplate: 'noJinja',
    } as const
    try {
      const wrapper = template.within(TEMPLATE_LOAD_MS, () => templateWrapper(options, template))
      if (template.exceeded === undefined) return new Prompts(model, wrapper, template)
    } catch {
      // A template in a dialect that the library cannot read.
    }
    await template.close()
    if (template.exceeded === undefined) return new Prompts(model, wrapperByName(model, source))
    throw MeshError.MODEL_INVALID(`The model's chat template is not used: ${template.exceeded}`)
  }

  /** @throws MeshError BAD_REQUEST when the model's template refuses the messages or goes over its bounds with them, calls
   * of tools and their results do not fit together, or a token is not in the vocabulary */
  async render(request: InferenceRequest): Promise<Prompt> {
    await this.#template?.ready
    return this.#template?.within(TEMPLATE_PROMPT_MS, () => this.#render(request)) ?? this.#render(request)
  }

  #render(request: InferenceRequest): Prompt {
    if (request.kind === 'chat') return this.#chatWithTools(request) ?? this.#chat(request)
    return { ...this.#raw(request.prompt), stopTokens: new Set(), stopTexts: [], continues: true }
  }

  /** A completion's prompt is raw: who writes one may well write the template's special tokens, or token ids, into it. */
  #raw(prompt: string | readonly number[]): Pick<Prompt, 'tokens' | 'put'> {
    if (typeof prompt !== 'string') return { tokens: asTokens(this.#model, prompt, 'prompt'), put: 0 }
    const said = this.#model.tokenize(prompt, true)
    const tokens = this.#withBeginning(said)
    if (tokens.length > 0) return { tokens, put: tokens.length - said.length }
    const { bos, eos } = this.#model.tokens
    const beginning = bos ?? eos
    if (beginning !== null) return { tokens: [beginning], put: 1 }
    throw MeshError.BAD_REQUEST('This model has no token for a beginning: the prompt may not be empty', {
      param: 'prompt',
    })
  }

  /** @returns undefined where there is nothing about tools in the request */
  #chatWithTools(request: ChatRequest): Prompt | undefined {
    const { messages } = request
    const tools = offeredTools(request)
    if (tools.length === 0 && !mentionsTools(messages)) return undefined
    checkToolMessages(messages)
    const template = this.#toolTemplateOf()
    const offered = tools.length > 0 && { syntax: template?.syntax ?? GENERIC_SYNTAX }
    if (!template) return { ...this.#chat({ ...request, messages: withoutTools(messages, tools) }), ...offered }
    // How turns end does not depend on the messages.
    const { stopTokens, stopTexts } = this.#chat({ ...request, messages: [{ role: 'user', content: 'x' }] })
    const continues = messages.at(-1)?.role === 'assistant'
    return {
      tokens: this.#tokens(request, () => template.render(messages, tools)),
      put: 0,
      stopTokens,
      stopTexts,
      continues,
      ...offered,
    }
  }

  #toolTemplateOf(): ToolTemplate | null {
    if (this.#toolTemplate !== undefined) return this.#toolTemplate
    const template = this.#template
    const found = (template && ToolTemplate.probe((variables) => template.render(variables), this.#model)) ?? null
    // What was not found in time may be there.
    if (template?.exceeded !== undefined) throw refusal(template.exceeded)
    this.#toolTemplate = found
    return found
  }

  #chat(request: ChatRequest): Prompt {
    const { messages } = request
    const most = mostChars(request)
    const chatHistory = messages.map(historyItem)
    // The wrapper completes the last model turn: an empty one, or the one that the caller has begun.
    const continues = messages.at(-1)?.role === 'assistant'
    if (!continues) chatHistory.push({ type: 'model', response: [] })
    let triggers: readonly LlamaText[] = []
    const tokens = this.#tokens(request, () => {
      const state = this.#wrapper.generateContextState({ chatHistory })
      triggers = state.stopGenerationTriggers.map((trigger) => bounded(trigger, most))
      return state.contextText
    })
    return { tokens, put: 0, ...this.#stops(triggers), continues }
  }

  /**
   * A message's content is plain text in here, apart from the template's special tokens: `<|end|>` typed by a user stays
   * five characters and does not end the turn.
   */
  #tokens(request: ChatRequest, render: () => LlamaText): Token[] {
    try {
      return this.#withBeginning(bounded(render(), mostChars(request)).tokenize(this.#model.tokenizer))
    } catch (cause) {
      throw refusal(this.#template?.exceeded ?? messageOf(cause), cause)
    }
  }

  #stops(triggers: readonly LlamaText[]): Pick<Prompt, 'stopTokens' | 'stopTexts'> {
    const stopTokens = new Set<Token>()
    const stopTexts: string[] = []
    for (const trigger of triggers) {
      const first = trigger.tokenize(this.#model.tokenizer)[0]
      if (first === undefined) continue
      if (this.#model.isSpecialToken(first) || this.#model.isEogToken(first)) stopTokens.add(first)
      else stopTexts.push(trigger.toString())
    }
    return { stopTokens, stopTexts: stopTexts.filter((text) => text.trim() !== '') }
  }

  #withBeginning(tokens: Token[]): Token[] {
    const { bos, shouldPrependBosToken } = this.#model.tokens
    if (!shouldPrependBosToken || bos === null || tokens[0] === bos) return tokens
    return [bos, ...tokens]
  }
}

/**
 * The wrapper that fits the model's name, or words in its template. The library renders that template to compare it with
 * its own, without any bound: it gets its words, and nothing that could be run.
 */
function wrapperByName(model: LlamaModel, source: string): ChatWrapper {
  const { fileInfo, filename, tokenizer, tokens } = model
  const { metadata } = fileInfo
  const harmless = source.replaceAll(/[{}]/g, '')
  return (
    resolveChatWrapper({
      fileInfo: {
        ...fileInfo,
        metadata: { ...metadata, tokenizer: { ...metadata.tokenizer, chat_template: harmless } },
      },
      filename,
      tokenizer,
      bosString: tokens.bosString,
      warningLogs: false,
      noJinja: true,
    }) ?? new GeneralChatWrapper()
  )
}

function refusal(reason: string, cause?: unknown): MeshError {
  return MeshError.BAD_REQUEST(
    `The model's chat template refuses these messages: ${reason}`,
    { param: 'messages' },
    { cause },
  )
}

/** The text as it is. @throws Error where it has more characters than `most` */
function bounded(text: LlamaText, most: number): LlamaText {
  const chars = text.values.reduce((sum, one) => sum + (typeof one === 'string' ? one : one.value).length, 0)
  if (chars > most) throw new Error(`it makes ${chars} characters of them where at most ${most} are taken`)
  return text
}

/** How long a request's prompt may be in characters. */
function mostChars(request: ChatRequest): number {
  return ADDED_CHARS + 4 * textsOf(request).reduce((sum, text) => sum + text.length, 0)
}

/** All texts of a request that are to be tokenized. */
export function textsOf(request: InferenceRequest): string[] {
  if (request.kind === 'completion') return typeof request.prompt === 'string' ? [request.prompt] : []
  const { messages, tools = [] } = request
  const said = messages.flatMap((message) => [
    message.content,
    ...(message.role === 'assistant' ? (message.toolCalls ?? []).map((call) => call.arguments) : []),
  ])
  return [...said, ...tools.map((tool) => JSON.stringify(tool))]
}

/** Without calls of tools: where there are some, they are text by now. */
function historyItem(message: ChatMessage): ChatHistoryItem {
  switch (message.role) {
    case 'system':
      return { type: 'system', text: message.content }
    case 'user':
    case 'tool':
      return { type: 'user', text: message.content }
    case 'assistant':
      return { type: 'model', response: [message.content] }
  }
}
