import type { TokenBatch } from '../protocol/index.js'

/** Batches of tokens that wait for a slow reader, joined. */

/** What a batch costs while it waits: about what holding it takes, in bytes. */
export function costOf({ ids, text, logprobs = [], calls = [], echo }: TokenBatch): number {
  const ofLogprobs = [...logprobs, ...(echo?.logprobs ?? [])].reduce((sum, { top }) => sum + 64 * (1 + top.length), 0)
  const ofCalls = calls.reduce((sum, call) => sum + call.arguments.length + 32, 0)
  const ofEcho = echo === undefined ? 0 : echo.text.length + echo.ids.length * 4
  return text.length + ids.length * 4 + ofLogprobs + ofCalls + ofEcho
}

/** A batch that can be added to, without changing what its maker holds. */
export function ownCopy<T extends TokenBatch>(batch: T): T {
  const { ids, logprobs, calls } = batch
  return { ...batch, ids: [...ids], ...(logprobs && { logprobs: [...logprobs] }), ...(calls && { calls: [...calls] }) }
}

/** Adds a batch to the one before it, where the text and calls of both keep their order. Pieces of a prompt stay small. */
export function joined(last: TokenBatch, next: TokenBatch): boolean {
  if (last.echo !== undefined || next.echo !== undefined) return false
  if (last.calls !== undefined && next.text !== '') return false
  last.ids.push(...next.ids)
  last.text += next.text
  if (next.logprobs !== undefined) {
    last.logprobs ??= []
    last.logprobs.push(...next.logprobs)
  }
  if (next.usage !== undefined) last.usage = next.usage
  if (next.calls !== undefined) {
    last.calls ??= []
    last.calls.push(...next.calls)
  }
  return true
}
