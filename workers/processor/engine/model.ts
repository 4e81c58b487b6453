import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import {
  GgufFileType,
  getLlama,
  InsufficientMemoryError,
  type Llama,
  type LlamaContext,
  LlamaLogLevel,
  type LlamaModel,
  NoBinaryFoundError,
} from 'node-llama-cpp'
import { engineCommand, MeshError, messageOf } from '../../../lib/errors/index.js'
import type { Gpu } from '../../../lib/protocol/index.js'
import { Batching } from './batching.js'
import type { EngineInfo, EngineMemory, GpuChoice, LoadOptions } from './messages.js'

/** Below this a second thread costs more than it gives: ggml's threads spin beside the event loop. */
const ONE_THREAD_BYTES = 64 * 1024 * 1024
/** Tokens in one decode step. The compute buffers grow with it. */
const CPU_BATCH = 256
const GPU_BATCH = 512
/** Less is no use for a chat. */
const LEAST_CONTEXT = 256

export interface LoadedModel {
  llama: Llama
  model: LlamaModel
  context: LlamaContext
  batching: Batching
  info: EngineInfo
}

/** Takes what llama.cpp has to say. */
export type EngineLog = (level: 'info' | 'warn' | 'error', message: string) => void

/**
 * Loads the model and makes one context with a sequence for each slot.
 * @throws MeshError MODEL_INVALID when llama.cpp refuses the file, CONFIG_INVALID when a GPU was ordered that does not
 * work here, ENGINE_FAILED when memory is short
 */
export async function loadModel(options: LoadOptions, onLog: EngineLog): Promise<LoadedModel> {
  let lastError = ''
  const llama = await openLlama(options.gpu, (level, message) => {
    const text = message.trim()
    const isError = level === LlamaLogLevel.error || level === LlamaLogLevel.fatal
    // At the end it says that it has failed, after it has said why.
    if (isError && !(lastError !== '' && text.endsWith('failed to load model'))) lastError = text
    onLog(level === LlamaLogLevel.warn ? 'warn' : 'error', text)
  })
  try {
    const model = await llama.loadModel({ modelPath: options.modelPath })
    const threads = options.threads > 0 ? options.threads : defaultThreads(model, llama)
    // The library lets no context use more threads than this.
    llama.maxThreads = Math.max(llama.maxThreads, threads)
    const batching = new Batching()
    const wanted = Math.min(options.contextLength, model.trainContextSize)
    const context = await model.createContext({
      sequences: options.slots,
      contextSize: { min: Math.min(LEAST_CONTEXT, wanted), max: wanted },
      batchSize: llama.gpu === false ? CPU_BATCH : GPU_BATCH,
      threads,
      batching: { itemPrioritizationStrategy: batching.strategy },
    })
    const gpu = await describeGpu(llama, options.gpu)
    const info: EngineInfo = {
      ...describeModel(model),
      slots: context.totalSequences,
      contextLength: Math.min(context.contextSize, wanted),
      threads,
      gpu,
      gpuMemory: {
        model: model.memoryUsage.vram,
        context: context.memoryUsage.vram,
        total: llama.gpu === false ? 0 : (await llama.getVramState()).total,
      },
    }
    return { llama, model, context, batching, info }
  } catch (cause) {
    throw loadFailure(cause, lastError)
  }
}

/** What this process and its devices have of memory now. */
export async function memoryNow({ llama }: Pick<LoadedModel, 'llama'>): Promise<EngineMemory> {
  const { used, free } = llama.gpu === false ? { used: 0, free: 0 } : await llama.getVramState()
  return { residentBytes: process.memoryUsage.rss(), gpu: { used, free } }
}

async function openLlama(gpu: GpuChoice, logger: (level: LlamaLogLevel, message: string) => void): Promise<Llama> {
  const machine = `${process.platform} ${process.arch}`
  const bring = gpu === 'cuda' || gpu === 'vulkan' ? `: \`${engineCommand(gpu)}\` installs it` : ''
  const missing = `engine.gpu is ${gpu}, but llama.cpp's ${gpu} back end does not work on this machine (${machine}): it is not installed${bring}, or there is no device or no driver. auto takes what works, off the CPU`
  let llama: Llama
  try {
    llama = await getLlama({
      gpu: gpu === 'off' ? false : gpu,
      build: 'never',
      skipDownload: true,
      progressLogs: false,
      logLevel: LlamaLogLevel.warn,
      logger,
    })
  } catch (cause) {
    if (!(cause instanceof NoBinaryFoundError)) throw cause
    const forced = gpu !== 'auto' && gpu !== 'off'
    const message = forced ? missing : `llama.cpp has no prebuilt library that runs on this machine (${machine})`
    throw MeshError.CONFIG_INVALID(message, {}, { cause })
  }
  // An order for a back end that this platform never has is answered with the CPU.
  if (gpu !== 'auto' && gpu !== 'off' && llama.gpu !== gpu) throw MeshError.CONFIG_INVALID(missing)
  return llama
}

/** Leaves a core to the event loop and to the other workers. */
function defaultThreads(model: LlamaModel, llama: Llama): number {
  if (model.size < ONE_THREAD_BYTES) return 1
  return Math.max(1, Math.min(llama.cpuMathCores, availableParallelism()) - 1)
}

async function describeGpu(llama: Llama, choice: GpuChoice): Promise<Gpu> {
  const backend = llama.gpu === false ? 'cpu' : llama.gpu
  const devices = llama.gpu === false ? [] : await llama.getGpuDeviceNames()
  return { backend, devices, reason: reasonFor(choice, backend) }
}

function reasonFor(choice: GpuChoice, backend: string): string {
  if (choice === 'off') return 'the configuration switches the GPU off'
  if (choice !== 'auto') return `the configuration asks for ${choice}`
  if (backend !== 'cpu') return `auto: ${backend} is the best back end that works on this machine`
  return cpuReason(process.platform, existsSync(NVIDIA_DRIVER))
}

/** Where Linux tells of NVIDIA's driver. */
const NVIDIA_DRIVER = '/proc/driver/nvidia/version'

/** Why the CPU was chosen, and how to have the GPU where its driver is there: its back end is no part of the package. */
export function cpuReason(platform: NodeJS.Platform, hasNvidiaDriver: boolean): string {
  const tried = platform === 'darwin' ? 'Metal' : 'CUDA and Vulkan'
  const help = hasNvidiaDriver ? `. It has NVIDIA's driver: \`${engineCommand('cuda')}\` installs the back end` : ''
  return `auto: ${tried} did not find a device that it can use on this machine${help}`
}

function describeModel(model: LlamaModel) {
  const { general } = model.fileInfo.metadata
  const tensors = model.fileInfo.fullTensorInfo ?? model.fileInfo.tensorInfo ?? []
  const parameters = tensors.reduce(
    (sum, { dimensions }) => sum + dimensions.reduce<number>((n, d) => n * Number(d), 1),
    0,
  )
  return {
    architecture: String(general.architecture),
    quantisation: quantisationName(general.file_type),
    parameters,
    trainedContextLength: model.trainContextSize,
    licence: typeof general.license === 'string' && general.license !== '' ? general.license : 'unknown',
    sizeBytes: model.size,
  }
}

/** llama.cpp's MOSTLY_Q4_K_M as people write it. */
function quantisationName(fileType: number | undefined): string {
  const name = fileType === undefined ? undefined : GgufFileType[fileType]
  return name?.replace(/^(MOSTLY|ALL)_/, '') ?? 'unknown'
}

function loadFailure(cause: unknown, lastError: string): MeshError {
  if (cause instanceof InsufficientMemoryError) {
    return MeshError.ENGINE_FAILED(`There is not enough memory for this model: ${cause.message}`, {}, { cause })
  }
  const reason = lastError || messageOf(cause)
  const unknown = /unknown model architecture: '([^']*)'/.exec(reason)?.[1]
  if (unknown !== undefined) {
    return MeshError.MODEL_INVALID(
      `The model has the architecture ${unknown}, which the llama.cpp that comes with this version does not know`,
      {},
      { cause },
    )
  }
  return MeshError.MODEL_INVALID(`llama.cpp cannot load this file: ${reason}`, {}, { cause })
}
