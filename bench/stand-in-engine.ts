import { MeshError } from '../lib/protocol/index.js'
import type { EngineInfo, FromEngine, ToEngine } from '../workers/processor/engine/index.js'

/**
 * Speaks as an engine process does and generates numbers at a steady rate, so that a load test measures the mesh and not
 * the model. Give its path to `Engine` or `ProcessorWorker` as the engine's `modulePath`.
 *
 *   STAND_IN_TOKENS_PER_S   for each stream (20)
 *   STAND_IN_TOKENS         length of an answer whose request sets no maxTokens (100)
 *   STAND_IN_PREFILL_MS     until the first token (0)
 *   STAND_IN_LOAD_MS        until the model counts as loaded (0)
 *   STAND_IN_EXIT_IN_LOAD   ends with this exit code instead of loading
 *   STAND_IN_TICK_MS        between two steps of all streams (5); 0: a request is answered whole, at once
 *   STAND_IN_DIE_AFTER      kills itself with SIGKILL after so many tokens in all; 0 never
 *
 * The number of slots is the one that the load options ask for.
 */

const number = (name: string, fallback: number) => Number(process.env[`STAND_IN_${name}`] ?? fallback)
const tokensPerS = number('TOKENS_PER_S', 20)
const answerTokens = number('TOKENS', 100)
const prefillMs = number('PREFILL_MS', 0)
const dieAfter = number('DIE_AFTER', 0)
/** One timer for all streams: a timer each would cost more than what is measured. */
const tickMs = number('TICK_MS', 5)

interface Stream {
  id: number
  index: number
  most: number
  promptTokens: number
  startedAt: number
  dueAt: number
}

const streams = new Map<number, Stream>()
let slots = 0
let total = 0

function send(message: FromEngine): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {})
}

function info(): EngineInfo {
  return {
    architecture: 'stand-in',
    quantisation: 'none',
    parameters: 0,
    trainedContextLength: 1_000_000,
    licence: 'none',
    sizeBytes: 0,
    slots,
    contextLength: 1_000_000,
    threads: 0,
    gpu: { backend: 'cpu', devices: [], reason: 'a stand-in runs no model' },
    gpuMemory: { model: 0, context: 0, total: 0 },
  }
}

function begin({ id, request }: Extract<ToEngine, { type: 'generate' }>): void {
  if (streams.size >= slots) {
    send({ type: 'error', id, error: MeshError.BUSY('All slots of this model are busy').toJSON() })
    return
  }
  send({ type: 'at', id })
  const text = request.kind === 'chat' ? request.messages.map(({ content }) => content).join(' ') : request.prompt
  const now = performance.now()
  streams.set(id, {
    id,
    index: 0,
    most: request.maxTokens ?? answerTokens,
    promptTokens: typeof text === 'string' ? text.split(/\s+/).length : text.length,
    startedAt: now,
    dueAt: now + prefillMs,
  })
  if (tickMs === 0) setImmediate(tick)
}

function tick(): void {
  const now = performance.now()
  const batches = []
  const finished: Stream[] = []
  for (const stream of streams.values()) {
    const { id, index, most } = stream
    const ready = tickMs === 0 ? most : Math.floor(((now - stream.dueAt) * tokensPerS) / 1000) + 1
    const due = Math.min(most - index, ready)
    if (due <= 0) continue
    const ids = Array.from({ length: due }, (_, i) => index + i)
    stream.index += due
    stream.dueAt += (due * 1000) / tokensPerS
    total += due
    batches.push({ id, batch: { index, ids, text: ids.map((n) => `${n} `).join('') } })
    if (stream.index >= most) finished.push(stream)
  }
  if (batches.length > 0) send({ type: 'tokens', batches })
  for (const { id, index, promptTokens, startedAt } of finished) {
    streams.delete(id)
    const usage = { promptTokens, cachedTokens: 0, completionTokens: index }
    send({ type: 'finish', id, finish: { reason: 'stop', usage, prefillMs, decodeMs: now - startedAt - prefillMs } })
  }
  if (dieAfter > 0 && total >= dieAfter) process.kill(process.pid, 'SIGKILL')
}

process.on('message', (message: ToEngine) => {
  switch (message.type) {
    case 'load':
      slots = message.options.slots
      if (process.env.STAND_IN_EXIT_IN_LOAD !== undefined) process.exit(number('EXIT_IN_LOAD', 1))
      setTimeout(() => send({ type: 'loaded', info: info() }), number('LOAD_MS', 0))
      if (tickMs > 0) setInterval(tick, tickMs)
      break
    case 'generate':
      begin(message)
      break
    case 'embed': {
      const embeddings = message.input.map((text) => [Math.cos(text.length), Math.sin(text.length)])
      send({ type: 'embedded', id: message.id, embeddings, promptTokens: message.input.length })
      break
    }
    case 'ping':
      send({ type: 'alive', steps: [...streams.values()].map(({ id, index }) => [id, index]) })
      break
    case 'cancel':
      if (streams.delete(message.id)) {
        send({ type: 'error', id: message.id, error: MeshError.CANCELLED('The generation was cancelled').toJSON() })
      }
  }
})
process.on('disconnect', () => process.exit(0))
process.on('SIGINT', () => {})
process.on('SIGTERM', () => {})
send({ type: 'ready' })
