import { fileURLToPath } from 'node:url'

export type {
  EmbeddingInput,
  EngineFinish,
  EngineInfo,
  EngineMemory,
  FromEngine,
  LoadOptions,
  ToEngine,
} from './messages.js'

/** The program that an engine process runs. A processor starts it and talks to it; nothing of it is loaded here. */
export const ENGINE_MODULE = fileURLToPath(new URL('./main.js', import.meta.url))

/** Whether node-llama-cpp is there for an engine process to load. */
export function hasEngine(): boolean {
  try {
    import.meta.resolve('node-llama-cpp')
    return true
  } catch {
    return false
  }
}
