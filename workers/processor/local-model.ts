import type { MeshError, Model, ModelLoad } from '../../lib/protocol/index.js'
import { type KnownFile, modelRecord } from './model-file.js'
import type { Engine } from './supervised-engine.js'

/** One model on this machine. */
export class LocalModel {
  readonly name: string
  readonly path: string
  readonly embedded: boolean
  readonly engine: Engine
  file: KnownFile | undefined
  /** Why it must not be used although its engine may be sound: its file is bad, or its name stands for another file. */
  refused: MeshError | undefined

  constructor(name: string, path: string, embedded: boolean, engine: Engine) {
    this.name = name
    this.path = path
    this.embedded = embedded
    this.engine = engine
  }

  /** As the directory lists it; undefined until its file was loaded once. */
  get record(): Model | undefined {
    return this.file?.facts && modelRecord(this.name, this.file, this.file.facts)
  }

  /** As this processor reports it. */
  get load(): ModelLoad {
    const { info, state, quiet, generating, failure } = this.engine
    const loaded = state === 'loaded' && info !== undefined && !quiet
    const slots = loaded ? info.slots : 0
    const failed = this.refused ?? failure
    return {
      name: this.name,
      hash: this.file?.hash ?? '',
      state: failed
        ? 'failed'
        : loaded
          ? 'loaded'
          : quiet || state === 'loading' || !this.file
            ? 'loading'
            : 'available',
      slots,
      busySlots: Math.min(slots, generating),
      contextLength: loaded ? info.contextLength : 0,
      ...(failed ? { reason: failed.message } : quiet && { reason: 'its engine does not answer' }),
    }
  }
}
