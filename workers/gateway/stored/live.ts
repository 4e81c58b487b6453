import { MAX_LIVE_BYTES } from '../../../lib/protocol/index.js'
import { fileName } from './record.js'
import type { Owner } from './shelves.js'

/** Something that is being made: what there is of it so far. */
export interface Live {
  /** JSON. */
  object(): string
  /** Ends it; resolves once its end is kept. */
  cancel(): Promise<void>
}

/** Things that are being made at this gateway. */
export class LiveObjects {
  readonly #live = new Map<string, Live>()

  get(owner: Owner, id: string): Live | undefined {
    return this.#live.get(fileName(owner.keyId, id))
  }

  /** The object as it is now, where it is not too long to be told. */
  object(owner: Owner, id: string): Buffer | undefined {
    const object = this.get(owner, id)?.object()
    const bytes = object === undefined ? undefined : Buffer.from(object)
    return bytes !== undefined && bytes.byteLength <= MAX_LIVE_BYTES ? bytes : undefined
  }

  /** Serves something while it is being made. @returns ends that */
  attach(owner: Owner, id: string, live: Live): () => void {
    const key = fileName(owner.keyId, id)
    this.#live.set(key, live)
    return () => this.#live.delete(key)
  }
}
