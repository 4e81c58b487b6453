import type {
  EmbeddingRequest,
  ErrorBody,
  FinishReason,
  Gpu,
  InferenceRequest,
  TokenBatch,
  TokensRequest,
  TokensResult,
  Usage,
} from '../../../lib/protocol/index.js'

/** What a processor and its engine process say to each other over Node's IPC channel. */

/** `auto` takes the best back end that works here; the others are an order. */
export type GpuChoice = 'auto' | 'cuda' | 'vulkan' | 'metal' | 'off'

export interface LoadOptions {
  modelPath: string
  gpu: GpuChoice
  /** Sequences that run at a time. */
  slots: number
  /** Most tokens of prompt plus answer in one slot; less where the model was trained for less or memory is short. */
  contextLength: number
  /** CPU threads; 0 leaves the choice to the engine. */
  threads: number
}

/** What the engine knows once the model is loaded. */
export interface EngineInfo {
  architecture: string
  /** llama.cpp's name of the file type, such as Q4_K_M. */
  quantisation: string
  parameters: number
  /** Longest context in tokens that the file was trained for. */
  trainedContextLength: number
  licence: string
  sizeBytes: number
  slots: number
  /** Tokens of prompt plus answer that one slot holds. */
  contextLength: number
  threads: number
  gpu: Gpu
  /** Bytes in GPU memory by what they hold; all 0 on the CPU. */
  gpuMemory: { model: number; context: number; total: number }
}

/** What memory there is and is taken now, in bytes. */
export interface EngineMemory {
  /** Of the machine's, by this process. */
  residentBytes: number
  /** Of all devices together, by whomever; 0 on the CPU. */
  gpu: { used: number; free: number }
}

export type EmbeddingInput = EmbeddingRequest['input'][number]

/** `id` is the processor's own number of a job, unique for the life of the engine. */
export type ToEngine =
  | { type: 'load'; options: LoadOptions }
  | { type: 'generate'; id: number; request: InferenceRequest }
  | { type: 'embed'; id: number; input: EmbeddingInput[] }
  | { type: 'tokenize'; id: number; asked: TokensRequest }
  | { type: 'cancel'; id: number }
  /** A piece of this job's prompt, as an answer echoes it, is on its way to the reader. */
  | { type: 'taken'; id: number }
  /** To be answered with `alive`, at once. */
  | { type: 'ping' }
  /** To be answered with `memory`, once it is loaded. */
  | { type: 'memory' }

export interface EngineFinish {
  reason: FinishReason
  usage: Usage
  /** From the request's arrival at the engine to the first token. */
  prefillMs: number
  /** From the first token to the last. */
  decodeMs: number
}

export type FromEngine =
  /** The process runs and waits for `load`. */
  | { type: 'ready' }
  | { type: 'loaded'; info: EngineInfo }
  /** The model could not be loaded; the process ends. */
  | { type: 'failed'; error: ErrorBody }
  /** The main thread lives. How far each job has come, in steps that mean nothing but progress. */
  | { type: 'alive'; steps: [id: number, steps: number][] }
  /** From here on, until anything else is told, the main thread works on this job alone. The first: it has begun. */
  | { type: 'at'; id: number }
  /** What one decode step gave, for all its sequences. */
  | { type: 'tokens'; batches: { id: number; batch: TokenBatch }[] }
  | { type: 'finish'; id: number; finish: EngineFinish }
  | { type: 'embedded'; id: number; embeddings: number[][]; promptTokens: number }
  | { type: 'tokenized'; id: number; result: TokensResult }
  /** The job ended without a finish; its slot is free. */
  | { type: 'error'; id: number; error: ErrorBody }
  | { type: 'memory'; memory: EngineMemory }
  | { type: 'log'; level: 'info' | 'warn' | 'error'; message: string }
