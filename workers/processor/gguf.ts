import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { MeshError } from '../../lib/protocol/index.js'

/** Magic, version, number of tensors, number of metadata entries: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
const HEADER_BYTES = 24
const NEWEST_VERSION = 3
/** So much of a file is read at a time. */
const PIECE_BYTES = 1024 * 1024

/**
 * Looks at a file's first bytes, so that what is clearly no model never reaches llama.cpp.
 * @returns the file's size and modification time
 * @throws MeshError MODEL_INVALID
 */
export async function checkGguf(path: string): Promise<{ sizeBytes: number; modifiedMs: number }> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    const why = cause.code === 'ENOENT' ? 'does not exist' : `cannot be read (${cause.code})`
    throw MeshError.MODEL_INVALID(`${path} ${why}`, { param: 'path' }, { cause })
  })
  try {
    const stat = await file.stat()
    if (!stat.isFile()) throw MeshError.MODEL_INVALID(`${path} is no file`, { param: 'path' })
    const header = Buffer.alloc(HEADER_BYTES)
    const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0)
    if (bytesRead < 4 || header.toString('latin1', 0, 4) !== 'GGUF') {
      throw MeshError.MODEL_INVALID(`${path} is no GGUF file: it does not begin with GGUF`, { param: 'path' })
    }
    if (bytesRead < HEADER_BYTES) {
      throw MeshError.MODEL_INVALID(`${path} is no whole GGUF file: it ends after ${bytesRead} bytes`, {
        param: 'path',
      })
    }
    const version = header.readUInt32LE(4)
    if (version < 2 || version > NEWEST_VERSION) {
      const bigEndian = header.readUInt32BE(4) <= NEWEST_VERSION ? ' (it is big-endian)' : ''
      throw MeshError.MODEL_INVALID(
        `${path} is a GGUF file of version ${version}${bigEndian}; versions 2 and 3 can be read`,
        { param: 'path' },
      )
    }
    return { sizeBytes: stat.size, modifiedMs: stat.mtimeMs }
  } finally {
    await file.close()
  }
}

/** SHA-256 of a file as hex, read in pieces. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  const piece = Buffer.allocUnsafe(PIECE_BYTES)
  const file = await open(path)
  try {
    while (true) {
      const { bytesRead } = await file.read(piece, 0, PIECE_BYTES)
      if (bytesRead === 0) return hash.digest('hex')
      hash.update(piece.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
}
