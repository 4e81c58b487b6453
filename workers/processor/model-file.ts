import { basename, isAbsolute } from 'node:path'
import { z } from 'zod'
import { MAX_FACT_CHARS, MeshError, type Model, modelNameSchema, oneLine } from '../../lib/protocol/index.js'
import type { EngineInfo } from './engine/index.js'
import { checkGguf, sha256OfFiles } from './gguf.js'
import { invalidModel } from './gguf-reader.js'

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
 * The file's hash, from `known` where the file is still the same; else by reading all of it. Of a model in several files
 * all count, as one.
 * @throws MeshError MODEL_INVALID; the signal's reason
 */
export async function identify(path: string, known?: KnownFile, signal?: AbortSignal): Promise<KnownFile> {
  const before = await checkGguf(path, signal)
  if (known !== undefined && isSame(before, known)) return known
  const hash = await sha256OfFiles(before.paths, signal)
  mustBeSame(path, before, await checkGguf(path, signal))
  const { sizeBytes, modifiedMs } = before
  return { path, sizeBytes, modifiedMs, hash }
}

/** By what a changed file is told. */
export type FileStamp = Pick<KnownFile, 'sizeBytes' | 'modifiedMs'>

function isSame(a: FileStamp, b: FileStamp): boolean {
  return a.sizeBytes === b.sizeBytes && a.modifiedMs === b.modifiedMs
}

/** What was checked, hashed and loaded is one file. @throws MeshError MODEL_INVALID where it was changed in between */
export function mustBeSame(path: string, before: FileStamp, now: FileStamp): void {
  if (!isSame(before, now)) throw invalidModel(path, 'was changed while it was read; try again once it is whole')
}

export function factsOf(info: EngineInfo): Facts {
  const { architecture, quantisation, parameters, trainedContextLength, licence } = info
  return { architecture, quantisation, parameters, contextLength: trainedContextLength, licence }
}

/** The model as the directory lists it. */
export function modelRecord(name: string, { hash, sizeBytes }: KnownFile, facts: Facts): Model {
  const { architecture, quantisation, licence } = facts
  return {
    name,
    hash,
    sizeBytes,
    ...facts,
    architecture: fact(architecture),
    quantisation: fact(quantisation),
    licence: fact(licence),
  }
}

/** What a file says of itself, as it can be shown. */
function fact(text: string): string {
  return oneLine(text).slice(0, MAX_FACT_CHARS)
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
