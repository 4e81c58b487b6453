import { MeshError, type PromptLogprob } from '../../../lib/protocol/index.js'
import { written } from './objects.js'

/**
 * Log-probabilities of one answer, alternatives included, as many as an answer that is told whole may have: some 30 bytes
 * each are kept of them until it is.
 */
export const MAX_LOGPROBS = 250_000

/** How many of an answer's log-probabilities there may be still. */
export class LogprobRoom {
  readonly #each: number
  /** How many there are of each prompt, as far as the choice has echoed it that has come furthest. */
  readonly #echoed = new Map<number, number>()
  #left = MAX_LOGPROBS

  /** @param each choices of each prompt */
  constructor(each: number) {
    this.#each = each
  }

  /** Takes room for those of an answer. @throws MeshError BAD_REQUEST */
  take(count: number): void {
    this.#left -= count
    if (this.#left < 0) throw tooMany()
  }

  /**
   * Takes room for those of a prompt, for all its choices at once: each will echo the same, so that what cannot be told in
   * the end is known when the first has echoed some of it.
   * @param count how many one of its choices has echoed, from the prompt's beginning
   * @throws MeshError BAD_REQUEST
   */
  takeEcho(prompt: number, count: number): void {
    const before = this.#echoed.get(prompt) ?? 0
    if (count <= before) return
    this.#echoed.set(prompt, count)
    this.take((count - before) * this.#each)
  }
}

/** Alternatives included. */
export function countOf(logprobs: readonly PromptLogprob[]): number {
  return logprobs.reduce((sum, { top }) => sum + 1 + top.length, 0)
}

/** @param count how many there would be at least, where that is known */
export function tooMany(count?: number): MeshError {
  const would = count === undefined ? 'would have more' : `would have at least ${count}`
  return MeshError.BAD_REQUEST(
    `logprobs: the answer ${would} log-probabilities, alternatives included; at most ${MAX_LOGPROBS} are told at once. Send fewer prompts at a time, ask for fewer alternatives, or stream`,
    { param: 'logprobs' },
  )
}

/**
 * Log-probabilities as completions have them. They are written as JSON when they come: a list of thousands of tokens is
 * smaller so than as objects, and is not written all at once in the end.
 */
export class CompletionLogprobs {
  #tokens: string[] = []
  #logprobs: string[] = []
  #tops: string[] = []
  #offsets: number[] = []
  /** Characters (code points, as Python counts them) before the next token. */
  #at = 0

  /** Adds those of some tokens, which follow those before. The offset of a part of a character is that of the character. */
  add(logprobs: readonly PromptLogprob[]): void {
    for (const { text, bytes, logprob, top } of logprobs) {
      const name = nameOf(text, bytes)
      this.#tokens.push(name)
      this.#logprobs.push(logprob === null ? 'null' : String(written(logprob)))
      // The token itself is always among them, as OpenAI says.
      const alternatives = new Map(top.map((one) => [nameOf(one.text, one.bytes), one.logprob] as const).reverse())
      if (logprob !== null && !alternatives.has(name)) alternatives.set(name, logprob)
      const entries = [...alternatives].sort(([, a], [, b]) => b - a).map(([key, value]) => `${key}:${written(value)}`)
      this.#tops.push(logprob === null ? 'null' : `{${entries.join(',')}}`)
      this.#offsets.push(isInside(bytes[0]) ? this.#at - 1 : this.#at)
      for (const byte of bytes) if (!isInside(byte)) this.#at++
    }
  }

  /** Whether nothing was added since the last time. */
  get isEmpty(): boolean {
    return this.#tokens.length === 0
  }

  /** What was added since the last time, as JSON. */
  take(): string {
    const lists = [
      `"tokens":[${this.#tokens.join(',')}]`,
      `"token_logprobs":[${this.#logprobs.join(',')}]`,
      `"top_logprobs":[${this.#tops.join(',')}]`,
      `"text_offset":[${this.#offsets.join(',')}]`,
    ]
    this.#tokens = []
    this.#logprobs = []
    this.#tops = []
    this.#offsets = []
    return `{${lists.join(',')}}`
  }
}

/** A byte that continues a character of UTF-8. */
function isInside(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80
}

/** A token in JSON. One that is part of a character is told by its bytes, as OpenAI does: else many would have one name. */
function nameOf(text: string, bytes: readonly number[]): string {
  if (!text.includes('\ufffd') || bytes.length === 0) return JSON.stringify(text)
  if (Buffer.from(bytes).equals(Buffer.from(text))) return JSON.stringify(text)
  return JSON.stringify(`bytes:${bytes.map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`)
}
