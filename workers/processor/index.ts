export { Engine, type EngineOptions } from './engine-process.js'
export { type ProcessorOptions, ProcessorWorker } from './worker.js'
