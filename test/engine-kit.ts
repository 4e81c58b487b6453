import { join } from 'node:path'
import type { Test } from 'brittle'
import { type InferenceInput, type InferenceRequest, inferenceRequestSchema, MeshError } from '../lib/protocol/index.js'
import { PACKAGE_ROOT } from '../lib/worker-base/index.js'
import type { EngineFinish } from '../workers/processor/engine/index.js'
import { Engine, type EngineOptions } from '../workers/processor/index.js'

export const TINY = join(PACKAGE_ROOT, 'models', 'infermesh-tiny.Q8_0.gguf')
export const STAND_IN = join(PACKAGE_ROOT, 'dist', 'bench', 'stand-in-engine.js')

export function engineOptions(options: Partial<EngineOptions> = {}): EngineOptions {
  return {
    modelPath: TINY,
    gpu: 'off',
    slots: 4,
    contextLength: 2048,
    threads: 1,
    loadTimeoutMs: 20_000,
    restartMinMs: 20,
    restartMaxMs: 200,
    ...options,
  }
}

/** A loaded engine that ends with the test. */
export async function startEngine(t: Test, options: Partial<EngineOptions> = {}): Promise<Engine> {
  const engine = new Engine(engineOptions(options))
  t.teardown(() => engine.stop())
  await engine.load()
  return engine
}

/** A greedy chat request. */
export function chat(content: string, more: Partial<InferenceInput> = {}): InferenceRequest {
  const request = { kind: 'chat', messages: [{ role: 'user', content }], sampling: { temperature: 0 }, ...more }
  return inferenceRequestSchema.parse(request)
}

/** A greedy raw completion of a text or of token ids. */
export function completion(prompt: string | number[], more: Partial<InferenceInput> = {}): InferenceRequest {
  return inferenceRequestSchema.parse({ kind: 'completion', prompt, sampling: { temperature: 0 }, ...more })
}

/** A greedy chat request with several turns, the user's first. */
export function turns(contents: string[], maxTokens?: number): InferenceRequest {
  const messages = contents.map((content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content }))
  return inferenceRequestSchema.parse({ kind: 'chat', messages, sampling: { temperature: 0 }, maxTokens })
}

export interface Answer {
  text: string
  ids: number[]
  /** `index` of each batch. */
  indices: number[]
  sizes: number[]
  finish: EngineFinish
}

/** Runs one generation to its end. */
export async function answer(engine: Engine, request: InferenceRequest, signal?: AbortSignal): Promise<Answer> {
  const seen = { text: '', ids: [] as number[], indices: [] as number[], sizes: [] as number[] }
  const finish = await engine.generate(
    request,
    ({ index, ids, text }) => {
      seen.text += text
      seen.ids.push(...ids)
      seen.indices.push(index)
      seen.sizes.push(ids.length)
    },
    signal,
  )
  return { ...seen, finish }
}

/** The MeshError that a promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<MeshError> {
  try {
    await promise
  } catch (err) {
    if (err instanceof MeshError) return err
    throw err
  }
  throw new Error('It did not fail')
}
