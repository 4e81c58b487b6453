import { z } from 'zod'

/** The `engine` facility: config/facs/engine.config.json. */
export const engineConfigSchema = z.strictObject({
  /** `auto` takes the best back end that works on this machine; `off` is the CPU. */
  gpu: z.enum(['auto', 'cuda', 'vulkan', 'metal', 'off']),
  /** Generations that run at a time, for each model. */
  slots: z.int().min(1).max(256),
  /** Most tokens of prompt plus answer in one slot; less where the model was trained for less or memory is short. */
  contextLength: z.int().min(256).max(4_194_304),
  /** CPU threads; 0 leaves the choice to the engine. */
  threads: z.int().min(0).max(512),
  /** Loads the embedded model when the processor starts. */
  embedded: z.boolean(),
  /** How long a model may take to load. */
  loadTimeoutMs: z.int().min(1000),
  /** Wait before a crashed engine is started again; doubles with each crash in a row. */
  restartMinMs: z.int().min(1),
  restartMaxMs: z.int().min(1),
})
export type EngineConfig = z.infer<typeof engineConfigSchema>
