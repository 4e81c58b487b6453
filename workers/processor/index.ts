export { Engine, type EngineOptions } from './supervised-engine.js'
export { type ProcessorOptions, ProcessorWorker } from './worker.js'
