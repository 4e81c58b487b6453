import test, { type Test } from 'brittle'
import { decodeEvent, encodeEvent } from '../lib/link/events.js'
import type { GenerateHandler } from '../lib/link/generate.js'
import { acceptGenerations, Generation } from '../lib/link/index.js'
import {
  type GenerateInput,
  inferenceRequestSchema,
  MeshError,
  newRequestId,
  readGeneration,
  type ToolCallDelta,
} from '../lib/protocol/index.js'
import { connect as connection } from './helpers/connection.js'
import { codeOf, until } from './helpers/wait.js'

/** Two ends of one real connection; the far end runs generations with the handler. */
function connect(t: Test, handler: GenerateHandler) {
  return connection(t, (mux) => acceptGenerations(mux, handler))
}

const request = (): GenerateInput => ({
  requestId: newRequestId(),
  request: inferenceRequestSchema.parse({ kind: 'completion', prompt: 'x' }),
})

const usage = { promptTokens: 1, cachedTokens: 0, completionTokens: 0 }

/** Reads a generation whole. @param pauseMs before each event */
async function read(generation: Generation, pauseMs = 0): Promise<{ ids: number[]; text: string; events: number }> {
  const ids: number[] = []
  let text = ''
  let events = 0
  for await (const event of generation) {
    events++
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
    if (event.type !== 'tokens') continue
    if (event.index !== ids.length) throw new Error(`token ${event.index} came where ${ids.length} was next`)
    ids.push(...event.ids)
    text += event.text
  }
  return { ids, text, events }
}

const count =
  (n: number): GenerateHandler =>
  async (_request, sink) => {
    for (let i = 0; i < n; i++) {
      sink.push({ type: 'tokens', index: i, ids: [i], text: `${i} ` })
      if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    sink.finish({ reason: 'stop', usage })
  }

test('every token arrives once and in order', async (t) => {
  const { mux } = await connect(t, count(5000))
  const { ids, text } = await read(new Generation(mux, request()))
  t.alike(
    ids,
    Array.from({ length: 5000 }, (_, i) => i),
  )
  t.is(text, ids.map((id) => `${id} `).join(''))
})

test('a reader that is behind gets the same tokens in fewer, larger batches', async (t) => {
  const { mux } = await connect(t, count(5000))
  const { ids, events } = await read(new Generation(mux, request()), 1)
  t.is(ids.length, 5000)
  t.ok(events < 2500, `${events} events`)
})

test('a reader that does not read is cut with SLOW_READER, and another on the same link is not slowed', async (t) => {
  let cut: MeshError | undefined
  const { mux } = await connect(t, async (asked, sink) => {
    const wanted = readGeneration(asked)
    if (wanted.kind === 'completion' && wanted.prompt === 'slow') {
      const text = 'x'.repeat(1000)
      try {
        for (let i = 0; ; i++) {
          sink.push({ type: 'tokens', index: i, ids: [i], text })
          await new Promise((resolve) => setImmediate(resolve))
        }
      } catch (err) {
        cut = err as MeshError
        throw err
      }
    }
    return count(1000)(asked, sink)
  })
  const slow = request()
  if (slow.request.kind === 'completion') slow.request.prompt = 'slow'
  const stalled = new Generation(mux, slow)
  const { ids } = await read(new Generation(mux, request()))
  t.is(ids.length, 1000)
  await until(() => cut !== undefined, 'the stalled stream is cut')
  t.is(cut?.code, 'SLOW_READER')
  t.is(await codeOf(read(stalled)), 'SLOW_READER')
})

test('batches that wait are joined, and text never passes the calls before it', async (t) => {
  const piece = (text: string): ToolCallDelta => ({ call: 0, arguments: text })
  const { mux } = await connect(t, async (_request, sink) => {
    for (let i = 0; i < 300; i++) {
      const isCall = Math.floor(i / 50) % 2 === 1
      sink.push({
        type: 'tokens',
        index: i,
        ids: [i],
        text: isCall ? '' : `${i} `,
        ...(isCall && { calls: [piece(`${i} `)] }),
      })
    }
    sink.finish({ reason: 'stop', usage })
  })
  const read: string[] = []
  let events = 0
  for await (const event of new Generation(mux, request())) {
    if (event.type !== 'tokens') continue
    events++
    read.push(event.text, ...(event.calls ?? []).map((call) => call.arguments))
  }
  t.is(read.join(''), Array.from({ length: 300 }, (_, i) => `${i} `).join(''))
  t.ok(events < 100, `${events} events`)
})

test('a flood of pieces of calls is bounded as text is', async (t) => {
  let cut: MeshError | undefined
  const { mux } = await connect(t, async (_request, sink) => {
    try {
      for (let i = 0; i < 10_000; i++) {
        sink.push({ type: 'tokens', index: 0, ids: [], text: '', calls: [{ call: 0, arguments: 'x'.repeat(1000) }] })
      }
    } catch (err) {
      cut = err as MeshError
      throw err
    }
  })
  const stalled = new Generation(mux, request())
  await until(() => cut !== undefined, 'the stream is cut')
  t.is(cut?.code, 'SLOW_READER')
  t.is(await codeOf(read(stalled)), 'SLOW_READER')
})

test('cancelling reaches the other side, and so does leaving the loop', async (t) => {
  const reasons: string[] = []
  const { mux } = await connect(t, async (_request, sink) => {
    sink.signal.addEventListener('abort', () => reasons.push((sink.signal.reason as MeshError).code))
    sink.push({ type: 'tokens', index: 0, ids: [0], text: 'a' })
    await new Promise((resolve) => sink.signal.addEventListener('abort', resolve))
  })
  const controller = new AbortController()
  const first = read(new Generation(mux, request(), controller.signal))
  for await (const event of new Generation(mux, request())) if (event.type === 'tokens') break
  controller.abort()
  t.is(await codeOf(first), 'CANCELLED')
  await until(() => reasons.length === 2, 'both handlers are told')
  t.alike(reasons, ['CANCELLED', 'CANCELLED'])
})

test('a connection that ends leaves no stream looking finished', async (t) => {
  let aborted = false
  const { mux, conn } = await connect(t, async (_request, sink) => {
    sink.push({ type: 'tokens', index: 0, ids: [0], text: 'a' })
    await new Promise((resolve) => sink.signal.addEventListener('abort', resolve))
    aborted = true
  })
  const generation = new Generation(mux, request())
  const reading = codeOf(
    (async () => {
      for await (const event of generation) if (event.type === 'tokens') conn.destroy()
    })(),
  )
  t.is(await reading, 'LINK_CLOSED')
  await until(() => aborted, 'the handler is told', 20_000)
  t.is(await codeOf((async () => new Generation(mux, request()))()), 'LINK_CLOSED')
})

test('what a handler throws is told with its code, and a request that cannot be read is answered', async (t) => {
  const { mux } = await connect(t, async (ask) => {
    readGeneration(ask)
    throw MeshError.MODEL_NOT_FOUND('no such model', { param: 'model' })
  })
  t.is(await codeOf(read(new Generation(mux, request()))), 'MODEL_NOT_FOUND')
  const bad = { ...request(), request: { kind: 'nonsense' } } as unknown as GenerateInput
  t.is(await codeOf(read(new Generation(mux, bad))), 'BAD_REQUEST')
})

test('events survive encoding, and a malformed one is an error of the protocol’s own', (t) => {
  const tokens = { type: 'tokens', index: 70_000, ids: [0, 1, 255, 128_000], text: 'żółw 🦊' } as const
  t.alike(decodeEvent(encodeEvent({ ...tokens, ids: [...tokens.ids] })), tokens)
  t.alike(decodeEvent(encodeEvent({ type: 'queued', position: 3 })), { type: 'queued', position: 3 })
  const logprob = { id: 3, text: 'ż', bytes: [197, 188], logprob: -0.5 }
  const calls = [{ call: 0, id: 'call_1', name: 'now', arguments: '{"city":"Ż' }]
  const full = {
    type: 'tokens' as const,
    index: 1,
    ids: [3],
    text: 'ż',
    logprobs: [{ ...logprob, top: [logprob] }],
    calls,
  }
  t.alike(decodeEvent(encodeEvent(full)), full)
  t.alike(decodeEvent(encodeEvent({ ...full, text: '', logprobs: undefined })), {
    type: 'tokens',
    index: 1,
    ids: [3],
    text: '',
    calls,
  })
  for (const bytes of [
    [],
    [9],
    [2],
    [2, 255, 255],
    [2, 0, 200, 1],
    [3, 123],
    [0, 123, 125],
    [2, 0, 0, 0, 123],
    [2, 0, 0, 5, 97],
  ]) {
    try {
      decodeEvent(Buffer.from(bytes))
      t.fail('was read')
    } catch (err) {
      t.is((err as MeshError).code, 'BAD_REQUEST')
    }
  }
})
