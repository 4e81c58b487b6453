import { basename, isAbsolute } from 'node:path'
import { z } from 'zod'
import { MeshError, type Model, modelNameSchema } from '../../lib/protocol/index.js'
import type { EngineInfo } from './engine/index.js'
import { checkGguf, sha256OfFile } from './gguf.js'

/** What loading a file once has taught about it. */
const factsSchema = z.object({
  architecture: z.string(),
  quantisation: z.string(),
  parameters: z.int(),
  contextLength: z.int(),
  licence: z.string(),
})
type Facts = z.infer<typeof factsSchema>

/** A file as it was when it was last read; another size or time means another file. */
const knownFileSchema = z.object({
  path: z.string(),
  sizeBytes: z.int(),
  modifiedMs: z.number(),
  hash: z.string(),
  facts: factsSchema.optional(),
})
export type KnownFile = z.infer<typeof knownFileSchema>

/** `<worker dir>/models.json`: the models that were added, and what is known of their files. */
export const modelListSchema = z.object({
  models: z.array(z.object({ name: modelNameSchema, path: z.string() })),
  files: z.array(knownFileSchema),
})

/**
 * The file's hash, from `known` where the file is still the same; else by reading all of it.
 * @throws MeshError MODEL_INVALID
 */
export async function identify(path: string, known: KnownFile | undefined): Promise<KnownFile> {
  const { sizeBytes, modifiedMs } = await checkGguf(path)
  if (known && known.sizeBytes === sizeBytes && known.modifiedMs === modifiedMs) return known
  return { path, sizeBytes, modifiedMs, hash: await sha256OfFile(path) }
}

export function factsOf(info: EngineInfo): Facts {
  const { architecture, quantisation, parameters, trainedContextLength, licence } = info
  return { architecture, quantisation, parameters, contextLength: trainedContextLength, licence }
}

/** The model as the directory lists it. */
export function modelRecord(name: string, { hash, sizeBytes }: KnownFile, facts: Facts): Model {
  return { name, hash, sizeBytes, ...facts }
}

/** @throws MeshError BAD_REQUEST where the file's name cannot stand as a model's name, or the path is relative */
export function modelNameFor(path: string, name: string | undefined): string {
  if (!isAbsolute(path)) {
    throw MeshError.BAD_REQUEST(`${path} is relative; give the whole path on the processor's machine`, {
      param: 'path',
    })
  }
  const chosen = name ?? basename(path).replace(/\.gguf$/i, '')
  if (modelNameSchema.safeParse(chosen).success) return chosen
  throw MeshError.BAD_REQUEST(`${JSON.stringify(chosen)} cannot be a model's name; give one with name`, {
    param: 'name',
  })
}
