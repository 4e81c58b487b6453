import type { EvaluationPriority, LlamaContext, LlamaContextSequence, Token } from 'node-llama-cpp'
import type { Batching } from './batching.js'

/** One sequence of the context. Between generations it keeps the KV of the last one. */
export class Slot {
  readonly number: number
  readonly sequence: LlamaContextSequence
  readonly #batching: Batching
  busy = false
  /** When it was last taken, as a count: larger is later. */
  used = 0
  /** What the KV holds; read from the sequence only when a generation ends, because that copies. */
  tokens: readonly Token[] = []

  constructor(number: number, sequence: LlamaContextSequence, batching: Batching) {
    this.number = number
    this.sequence = sequence
    this.#batching = batching
  }

  /** Reaches the batching strategy as it is: see Batching. */
  get priority(): EvaluationPriority {
    return (this.number + 1) as EvaluationPriority
  }

  /**
   * Brings the cache down to what it has in common with the prompt. The prompt's last token is always evaluated again,
   * since its logits give the first token of the answer.
   * @returns how many tokens of the prompt are in the cache
   */
  async keepPrefix(prompt: Token[]): Promise<number> {
    const { sequence } = this
    const reusable = prompt.slice(0, -1)
    if (sequence.nextTokenIndex > commonPrefix(this.tokens, reusable)) {
      await this.#batching.between(() => sequence.adaptStateToTokens(reusable, false))
    }
    return sequence.nextTokenIndex
  }
}

/** The slots of one engine, and which of them a request gets. */
export class Slots {
  readonly #slots: Slot[]
  #clock = 0

  constructor(context: LlamaContext, batching: Batching) {
    this.#slots = Array.from({ length: context.totalSequences }, (_, i) => new Slot(i, context.getSequence(), batching))
  }

  /** @returns undefined when all are busy */
  take(prompt: readonly Token[]): Slot | undefined {
    const slot = choose(
      this.#slots.filter((one) => !one.busy),
      prompt,
    )
    if (slot) {
      slot.busy = true
      slot.used = ++this.#clock
    }
    return slot
  }

  give(slot: Slot): void {
    slot.tokens = slot.sequence.contextTokens
    slot.busy = false
  }
}

interface Cached {
  readonly tokens: readonly number[]
  readonly used: number
}

/**
 * The slot with the longest common prefix, as long as more of its cache is used than thrown away; else the least
 * recently used. (A system prompt that all conversations share would otherwise let each new one erase another's cache
 * while empty slots stand by.)
 */
export function choose<T extends Cached>(free: readonly T[], prompt: readonly number[]): T | undefined {
  const oldest = free.reduce<T | undefined>((best, slot) => (best && best.used <= slot.used ? best : slot), undefined)
  let best: T | undefined
  let longest = 0
  for (const slot of free) {
    const common = commonPrefix(slot.tokens, prompt)
    if (common > longest && common >= slot.tokens.length - common) {
      best = slot
      longest = common
    }
  }
  return best ?? oldest
}

export function commonPrefix(a: readonly number[], b: readonly number[]): number {
  const most = Math.min(a.length, b.length)
  let i = 0
  while (i < most && a[i] === b[i]) i++
  return i
}
