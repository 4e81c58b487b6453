import { createHash } from 'node:crypto'
import { constants, type Stats } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { systemCode } from '../../lib/protocol/index.js'
import { LEAST_BYTES, MOST_HEADER_BYTES, readHeader } from './gguf-header.js'
import { notGguf } from './gguf-kinds.js'
import { count, GgufReader, invalidModel } from './gguf-reader.js'

/** So much of a file is read at a time. */
const PIECE_BYTES = 1024 * 1024
/** The name of a part of a model in several files, as llama.cpp's splitter gives it. */
const PART_NAME = /-(\d{5})-of-(\d{5})\.gguf$/
/** LLAMA_MAX_SPLITS of llama.cpp. */
const MOST_PARTS = 128

/** What a model lies in, and how it was when it was looked at. */
export interface GgufFiles {
  /** The file, or the parts in their order. */
  paths: string[]
  /** Of all together. */
  sizeBytes: number
  /** When any was last changed, in milliseconds since the epoch. */
  modifiedMs: number
}

/**
 * Looks at the header of a file, and of the other parts of a model in several, so that what is no model never reaches
 * llama.cpp.
 * @throws MeshError MODEL_INVALID saying what is wrong; the signal's reason
 */
export async function checkGguf(path: string, signal?: AbortSignal): Promise<GgufFiles> {
  const first = await checkFile(path, signal)
  const files = { paths: [path], sizeBytes: first.stats.size, modifiedMs: first.stats.mtimeMs }
  if (first.parts === undefined) return files
  const { number, count: parts } = first.parts
  const named = PART_NAME.exec(path)
  if (number !== 0 || parts > MOST_PARTS || Number(named?.[1]) !== 1 || Number(named?.[2]) !== parts) {
    throw invalidModel(
      path,
      `is part ${number + 1} of ${count(parts)}: give the first part, under its own name, which ends in -00001-of-0000N.gguf; at most ${MOST_PARTS} parts`,
    )
  }
  for (let i = 2; i <= parts; i++) {
    const part = path.replace(PART_NAME, (_all, _first, last) => `-${String(i).padStart(5, '0')}-of-${last}.gguf`)
    const { stats, parts: said } = await checkFile(part, signal)
    if (said?.number !== i - 1 || said.count !== parts) throw invalidModel(part, `is not part ${i} of ${parts}`)
    files.paths.push(part)
    files.sizeBytes += stats.size
    files.modifiedMs = Math.max(files.modifiedMs, stats.mtimeMs)
  }
  return files
}

async function checkFile(path: string, signal: AbortSignal | undefined) {
  signal?.throwIfAborted()
  const { file, stats } = await openFile(path)
  try {
    const { size: sizeBytes } = stats
    const magic = Buffer.alloc(4)
    await file.read(magic, 0, 4, 0)
    if (magic.toString('latin1') !== 'GGUF') throw invalidModel(path, `is no GGUF file: ${notGguf(magic)}`)
    if (sizeBytes < LEAST_BYTES) throw invalidModel(path, `is no whole GGUF file: it ends after ${sizeBytes} bytes`)
    const reader = new GgufReader(file, { path, sizeBytes, mostBytes: MOST_HEADER_BYTES, signal })
    return { stats, parts: await readHeader(reader) }
  } finally {
    await file.close()
  }
}

/** Opens a file, and nothing else that a path may lead to: a pipe would never answer, a device never end. */
async function openFile(path: string): Promise<{ file: FileHandle; stats: Stats }> {
  let file: FileHandle | undefined
  try {
    if (!(await stat(path)).isFile()) throw invalidModel(path, 'is no file')
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    const stats = await file.stat()
    if (!stats.isFile()) throw invalidModel(path, 'is no file')
    return { file, stats }
  } catch (err) {
    await file?.close()
    const code = systemCode(err)
    if (code === undefined || code === 'MODEL_INVALID') throw err
    throw invalidModel(path, code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`, err)
  }
}

/** SHA-256 as hex of files one behind another, read in pieces. @throws MeshError MODEL_INVALID; the signal's reason */
export async function sha256OfFiles(paths: readonly string[], signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256')
  const piece = Buffer.allocUnsafe(PIECE_BYTES)
  for (const path of paths) {
    const { file } = await openFile(path)
    try {
      while (true) {
        signal?.throwIfAborted()
        const { bytesRead } = await file.read(piece, 0, PIECE_BYTES)
        if (bytesRead === 0) break
        hash.update(piece.subarray(0, bytesRead))
      }
    } finally {
      await file.close()
    }
  }
  return hash.digest('hex')
}
