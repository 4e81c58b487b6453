import type { MeshClient } from '../../lib/client/index.js'
import { MeshError } from '../../lib/protocol/index.js'
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

/** @throws MeshError MODEL_NOT_FOUND, with what there is */
export async function mustHaveModel(mesh: MeshClient, name: string, signal?: AbortSignal): Promise<void> {
  const models = await mesh.models({ signal })
  if (models.some((model) => model.name === name)) return
  const has = models.length === 0 ? 'none yet' : models.map((model) => model.name).join(', ')
  throw MeshError.MODEL_NOT_FOUND(`The mesh has no model ${name}; it has ${has}`)
}
