import type { Model } from '../../lib/protocol/index.js'

/** What a directory says of a model. No file goes with it. */
export function testModel(name: string, hash: string): Model {
  return {
    name,
    hash,
    sizeBytes: 1,
    architecture: 'llama',
    quantisation: 'Q8_0',
    parameters: 1,
    contextLength: 2048,
    licence: 'MIT',
  }
}
