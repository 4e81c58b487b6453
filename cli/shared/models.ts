import type { MeshClient } from '../../lib/client/index.js'
import { bytesText, countText } from './output.js'

type Models = Awaited<ReturnType<MeshClient['models']>>

export const MODEL_HEAD = ['MODEL', 'PARAMETERS', 'QUANTISATION', 'SIZE', 'CONTEXT', 'LICENCE', 'PROCESSORS']

export function modelRows(models: Models): string[][] {
  return models.map((model) => [
    model.default ? `${model.name} (default)` : model.name,
    model.parameters === 0 ? '-' : countText(model.parameters),
    model.quantisation || '-',
    bytesText(model.sizeBytes),
    String(model.contextLength),
    model.licence || '-',
    model.processors.length === 0 ? '-' : model.processors.join(', '),
  ])
}
