import { type ChatMessage, type InferenceRequest, MeshError } from '../../../lib/protocol/index.js'
import type { Call } from '../http/index.js'
import type { DoorOptions } from './options.js'
import { chatAsked } from './tokens.js'

/** `truncation: "auto"`: a conversation that is longer than the model's context loses its oldest turns. */

/** How often a prompt is counted to find out how much has to go. */
const MOST_COUNTS = 8
/** The last of these halve what is left, whatever the counts before have suggested. */
const GUESSES = 4
/** What a chat template adds, in all and to each message, as a rule at most. */
const TEMPLATE_TOKENS = 512
const MESSAGE_TOKENS = 16
/** Before anything was counted. */
const BYTES_PER_TOKEN = 4
/** What an answer without a bound is left of the context: an eighth, and no more than this. */
const MOST_ROOM = 1024

/** Which messages go together, in the order in which they go. */
export interface DropOrder {
  groups: number
  /** For each message its group, from 1; 0 for those that always stay. */
  of: readonly number[]
}

/**
 * What goes first: whole turns before the last message of a user, each from its user's message to the next one's, and
 * behind that whole steps, each from a message of the assistant to the next one. A call and its output go together. What
 * is of the system, the last message of a user and the newest step stay.
 */
export function dropOrder(messages: readonly ChatMessage[]): DropOrder {
  const lastUser = messages.findLastIndex(({ role }) => role === 'user')
  let turns = 0
  let before = -1
  const turnOf = messages.map(({ role }, i) => {
    if (role === 'system' || i === lastUser) return 0
    const isTail = i > lastUser
    if (role === (isTail ? 'assistant' : 'user') || turns === 0 || (isTail && before < lastUser)) turns++
    before = i
    return turns
  })
  const reach = Array.from({ length: turns + 1 }, (_, turn) => turn)
  const madeIn = new Map<string, number>()
  for (const [i, message] of messages.entries()) {
    const turn = turnOf[i] ?? 0
    if (message.role === 'assistant') for (const { id } of message.toolCalls ?? []) madeIn.set(id, turn)
    const made = message.role === 'tool' ? madeIn.get(message.toolCallId) : undefined
    if (made !== undefined) reach[made] = Math.max(reach[made] ?? 0, turn)
  }
  let groups = 0
  let end = 0
  const groupOf = reach.map((to, turn) => {
    if (turn === 0) return 0
    if (turn > end) groups++
    end = Math.max(end, to)
    return groups
  })
  const newest = before > lastUser ? groups : groups + 1
  const of = turnOf.map((turn) => groupOf[turn] ?? 0).map((group) => (group === newest ? 0 : group))
  return { groups: newest - 1, of }
}

/** What a prompt was counted to have. */
export interface Counted {
  /** Absent: more than the context. */
  tokens?: number | undefined
  contextLength?: number | undefined
}

export interface Fitting {
  /** Most that can be dropped. */
  groups: number
  /** Length of what is left once so many were dropped, in bytes. */
  bytes: (drops: number) => number
  contextLength: number
  /** Most tokens of the answer. */
  maxTokens: number | undefined
  count: (drops: number) => Promise<Counted>
}

/**
 * How many groups have to go, as few as a handful of counts can tell.
 * @returns undefined where even the least there can be is too long
 */
export async function fewestDrops(fitting: Fitting): Promise<number | undefined> {
  const { groups, bytes, maxTokens, count } = fitting
  let { contextLength } = fitting
  let bytesPerToken = BYTES_PER_TOKEN
  let tooFew = -1
  let enough = groups + 1
  let leastTokens: number | undefined
  for (let counts = 0; counts < MOST_COUNTS && enough - tooFew > 1; counts++) {
    const most = (contextLength - roomFor(maxTokens, contextLength)) * bytesPerToken
    let drops = Math.ceil((tooFew + enough) / 2)
    if (counts < GUESSES) for (drops = tooFew + 1; drops < enough - 1 && bytes(drops) > most; ) drops++
    if (counts === MOST_COUNTS - 1 && enough > groups) drops = groups
    drops = Math.min(drops, enough - 1)
    const counted = await count(drops)
    contextLength = Math.min(contextLength, counted.contextLength ?? contextLength)
    const { tokens } = counted
    // What was not counted is taken to be twice too long.
    bytesPerToken = bytes(drops) / Math.max(1, tokens ?? 2 * contextLength)
    if (tokens !== undefined && tokens <= contextLength - roomFor(maxTokens, contextLength)) enough = drops
    else {
      tooFew = drops
      if (drops === groups) leastTokens = tokens
    }
  }
  if (enough <= groups) return enough
  return leastTokens !== undefined && leastTokens < contextLength ? groups : undefined
}

/** What is left to an answer, in tokens: what it asks for, but never more than half of the context. */
function roomFor(maxTokens: number | undefined, contextLength: number): number {
  const asked = maxTokens ?? Math.min(MOST_ROOM, Math.floor(contextLength / 8))
  return Math.min(asked, Math.floor(contextLength / 2))
}

/** A request as it is sent, and which of its messages that are, where some were left out. */
export interface CutRequest {
  request: InferenceRequest
  kept?: readonly number[]
}

/**
 * A conversation without its oldest turns, as far as it is too long otherwise. One that cannot be made to fit stays as it is.
 * @throws MeshError as `Tokens.counting`
 */
export async function cutToFit(
  { tokens, catalogue }: Pick<DoorOptions, 'tokens' | 'catalogue'>,
  request: InferenceRequest,
  call: Call,
): Promise<CutRequest> {
  const model = catalogue.find(request.model)
  // That it is not there is said by whoever lets the request in.
  if (request.kind !== 'chat' || model === undefined) return { request }
  const { messages, tools, maxTokens } = request
  const { groups, of } = dropOrder(messages)
  if (groups === 0) return { request }
  const sizes = sizesOf(messages, of, groups, tools === undefined ? 0 : Buffer.byteLength(JSON.stringify(tools)))
  const bytes = (drops: number): number => sizes[drops] ?? 0
  const known = tokens.contextLength(request.model)
  // No token says less than a byte.
  const most = bytes(0) + TEMPLATE_TOKENS + MESSAGE_TOKENS * messages.length
  if (known !== undefined && most <= known - roomFor(maxTokens, known)) return { request }

  const keptOf = (drops: number): number[] => [...messages.keys()].filter((i) => of[i] === 0 || (of[i] ?? 0) > drops)
  const without = (drops: number) => ({ ...request, messages: keptOf(drops).flatMap((i) => messages[i] ?? []) })
  const contextLength = known ?? model.contextLength
  const drops = await tokens.counting(request.model, call, (told) =>
    fewestDrops({
      groups,
      bytes,
      contextLength,
      maxTokens,
      count: (drops) => counted(() => told(chatAsked(without(drops), false))),
    }),
  )
  return drops === undefined || drops === 0 ? { request } : { request: without(drops), kept: keptOf(drops) }
}

/** Bytes of what is left once so many groups were dropped. */
function sizesOf(messages: readonly ChatMessage[], of: readonly number[], groups: number, always: number): number[] {
  const own = Array<number>(groups + 1).fill(0)
  for (const [i, message] of messages.entries()) {
    const group = of[i] ?? 0
    own[group] = (own[group] ?? 0) + sizeOf(message)
  }
  let left = always + (own[0] ?? 0)
  const sizes = Array<number>(groups + 1)
  for (let drops = groups; drops >= 0; drops--) {
    sizes[drops] = left
    left += own[drops] ?? 0
  }
  return sizes
}

function sizeOf(message: ChatMessage): number {
  const calls = message.role === 'assistant' ? (message.toolCalls ?? []) : []
  return calls.reduce(
    (sum, { name, arguments: args }) => sum + name.length + Buffer.byteLength(args),
    Buffer.byteLength(message.content),
  )
}

async function counted(count: () => Promise<{ count: number; contextLength?: number | undefined }>): Promise<Counted> {
  try {
    const { count: tokens, contextLength } = await count()
    return { tokens, contextLength }
  } catch (err) {
    const { code, details } = MeshError.from(err)
    if (code !== 'CONTEXT_LENGTH_EXCEEDED' && code !== 'MESSAGE_TOO_LARGE') throw err
    return { tokens: numberIn(details.promptTokens), contextLength: numberIn(details.contextLength) }
  }
}

function numberIn(fact: unknown): number | undefined {
  return typeof fact === 'number' ? fact : undefined
}
