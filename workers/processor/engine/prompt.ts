import {
  type ChatHistoryItem,
  type ChatWrapper,
  GeneralChatWrapper,
  JinjaTemplateChatWrapper,
  type LlamaModel,
  type LlamaText,
  resolveChatWrapper,
  type Token,
} from 'node-llama-cpp'
import { MeshError, messageOf } from '../../../lib/errors/index.js'
import type { ChatMessage, InferenceRequest } from '../../../lib/protocol/index.js'
import { nativeTemplate } from './llama-internals.js'
import {
  type CallSyntax,
  type ChatRequest,
  checkToolMessages,
  GENERIC_SYNTAX,
  mentionsTools,
  offeredTools,
  type RenderTemplate,
  ToolTemplate,
  withoutTools,
} from './tools/index.js'
import { asTokens } from './vocabulary.js'

export interface Prompt {
  tokens: Token[]
  /** Tokens that end the answer besides the model's own end-of-generation tokens. */
  stopTokens: ReadonlySet<Token>
  /** Texts with which the chat template ends a turn. */
  stopTexts: string[]
  /** True where the answer continues the prompt's own text and is not a turn of its own. */
  continues: boolean
  /** How the model writes calls of tools; absent where it is offered none. */
  syntax?: CallSyntax
}

/** So much text is tokenized at a time: about 30 ms, in which nothing else runs. */
const SLICE_CHARS = 64 * 1024
/** Texts of up to this many characters for each token of context are tokenized at once. */
const LIKELY_CHARS = 16

/** Renders requests to tokens, with the chat template that the model file carries. */
export class Prompts {
  readonly #model: LlamaModel
  readonly #wrapper: ChatWrapper
  /** Null where the model's template knows no tools; absent until a request has some. */
  #toolTemplate: ToolTemplate | null | undefined

  constructor(model: LlamaModel) {
    this.#model = model
    this.#wrapper = wrapperFor(model)
  }

  /** @throws MeshError BAD_REQUEST when the model's template refuses the messages, calls of tools and their results do
   * not fit together, or a token is not in the vocabulary */
  render(request: InferenceRequest): Prompt {
    if (request.kind === 'chat') return this.#chatWithTools(request) ?? this.#chat(request.messages)
    return { ...this.#raw(request.prompt), stopTokens: new Set(), stopTexts: [], continues: true }
  }

  /**
   * Counts the tokens of a text that is most likely far too long, slice by slice, so that running streams go on
   * meanwhile. Exact to about a token for each slice; 0 for texts of ordinary length, which rendering will count.
   */
  async estimate(request: InferenceRequest, contextLength: number): Promise<number> {
    const texts = textsOf(request)
    const chars = texts.reduce((sum, text) => sum + text.length, 0)
    if (chars <= Math.max(SLICE_CHARS, contextLength * LIKELY_CHARS)) return 0
    let tokens = 0
    for (const text of texts) {
      for (let at = 0; at < text.length; at += SLICE_CHARS) {
        tokens += this.#model.tokenize(text.slice(at, at + SLICE_CHARS)).length
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    return tokens
  }

  /** A completion's prompt is raw: who writes one may well write the template's special tokens, or token ids, into it. */
  #raw(prompt: string | readonly number[]): { tokens: Token[] } {
    if (typeof prompt !== 'string') return { tokens: asTokens(this.#model, prompt, 'prompt') }
    return { tokens: this.#withBeginning(this.#model.tokenize(prompt, true)) }
  }

  /** @returns undefined where there is nothing about tools in the request */
  #chatWithTools(request: ChatRequest): Prompt | undefined {
    const { messages } = request
    const tools = offeredTools(request)
    if (tools.length === 0 && !mentionsTools(messages)) return undefined
    checkToolMessages(messages)
    if (this.#toolTemplate === undefined) this.#toolTemplate = this.#probeTemplate()
    const template = this.#toolTemplate
    const offered = tools.length > 0 && { syntax: template?.syntax ?? GENERIC_SYNTAX }
    if (!template) return { ...this.#chat(withoutTools(messages, tools)), ...offered }
    // How turns end does not depend on the messages.
    const { stopTokens, stopTexts } = this.#chat([{ role: 'user', content: 'x' }])
    const continues = messages.at(-1)?.role === 'assistant'
    return {
      tokens: this.#tokens(() => template.render(messages, tools)),
      stopTokens,
      stopTexts,
      continues,
      ...offered,
    }
  }

  #probeTemplate(): ToolTemplate | null {
    const render = templateRenderer(this.#wrapper)
    return (render && ToolTemplate.probe(render, this.#model)) ?? null
  }

  #chat(messages: readonly ChatMessage[]): Prompt {
    const chatHistory = messages.map(historyItem)
    // The wrapper completes the last model turn: an empty one, or the one that the caller has begun.
    const continues = messages.at(-1)?.role === 'assistant'
    if (!continues) chatHistory.push({ type: 'model', response: [] })
    let triggers: readonly LlamaText[] = []
    const tokens = this.#tokens(() => {
      const state = this.#wrapper.generateContextState({ chatHistory })
      triggers = state.stopGenerationTriggers
      return state.contextText
    })
    return { tokens, ...this.#stops(triggers), continues }
  }

  /**
   * A message's content is plain text in here, apart from the template's special tokens: `<|end|>` typed by a user stays
   * five characters and does not end the turn.
   */
  #tokens(render: () => LlamaText): Token[] {
    try {
      return this.#withBeginning(render().tokenize(this.#model.tokenizer))
    } catch (cause) {
      const reason = messageOf(cause)
      throw MeshError.BAD_REQUEST(
        `The model's chat template refuses these messages: ${reason}`,
        { param: 'messages' },
        { cause },
      )
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
 * The model's own template as it stands. (`resolveChatWrapper` would first compare it with each of the library's own
 * wrappers, which takes most of a second and changes nothing for plain chats.) Without a template that works, the
 * wrapper that fits the model's name.
 */
function wrapperFor(model: LlamaModel): ChatWrapper {
  const template = model.fileInfo.metadata.tokenizer?.chat_template
  if (template !== undefined && template.trim() !== '') {
    try {
      return new JinjaTemplateChatWrapper({
        template,
        tokenizer: model.tokenizer,
        functionCallMessageTemplate: 'noJinja',
      })
    } catch {
      // A template in a dialect that the library cannot read.
    }
  }
  return resolveChatWrapper(model, { warningLogs: false, noJinja: true }) ?? new GeneralChatWrapper()
}

/** The library's own way of rendering the model's template; undefined where it could not read the template. */
function templateRenderer(wrapper: ChatWrapper): RenderTemplate | undefined {
  const template = wrapper instanceof JinjaTemplateChatWrapper ? nativeTemplate(wrapper) : undefined
  return template && ((variables) => template.render(variables))
}

/** All texts of a request that are to be tokenized. */
function textsOf(request: InferenceRequest): string[] {
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
