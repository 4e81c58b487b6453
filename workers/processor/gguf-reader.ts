import type { FileHandle } from 'node:fs/promises'
import { MeshError } from '../../lib/protocol/index.js'

/** So much of a file is read at a time. */
const PIECE_BYTES = 256 * 1024

/** Why a file cannot be served as a model. @param why a sentence's end, behind the path */
export function invalidModel(path: string, why: string, cause?: unknown): MeshError {
  return MeshError.MODEL_INVALID(`${path} ${why}`, { param: 'path' }, { cause })
}

/**
 * Reads the values of a GGUF header one behind another. Never past the file's end, and never past `mostBytes`: what a
 * header says of lengths is believed only as far as there are bytes for it.
 */
export class GgufReader {
  readonly path: string
  readonly sizeBytes: number
  readonly #file: FileHandle
  readonly #mostBytes: number
  readonly #signal: AbortSignal | undefined
  #piece = Buffer.alloc(0)
  /** Where the piece begins in the file. */
  #start = 0
  /** Where the next value begins in the piece; past its end after a skip. */
  #at = 0

  constructor(file: FileHandle, of: { path: string; sizeBytes: number; mostBytes: number; signal?: AbortSignal }) {
    this.#file = file
    this.path = of.path
    this.sizeBytes = of.sizeBytes
    this.#mostBytes = of.mostBytes
    this.#signal = of.signal
  }

  /** Where the next value begins in the file. */
  get position(): number {
    return this.#start + this.#at
  }

  get bytesLeft(): number {
    return this.sizeBytes - this.position
  }

  /** @throws MeshError MODEL_INVALID where the header does not go on, CANCELLED */
  async uint(bytes: 1 | 2 | 4): Promise<number> {
    if (!this.#has(bytes)) await this.#fill(bytes)
    this.#at += bytes
    return this.#piece.readUIntLE(this.#at - bytes, bytes)
  }

  /** Of 64 bits: exact up to 2^53, and above only said to be large. @throws as `uint` */
  async uint64(): Promise<number> {
    if (!this.#has(8)) await this.#fill(8)
    return this.#uint64()
  }

  /** @param most longest text in bytes @throws as `uint` */
  async text(most: number, what: string): Promise<string> {
    const bytes = await this.uint64()
    if (bytes > most) throw this.invalid(`has ${count(bytes)} bytes as ${what}; at most ${count(most)} are read`)
    if (!this.#has(bytes)) await this.#fill(bytes)
    this.#at += bytes
    return this.#piece.toString('utf8', this.#at - bytes, this.#at)
  }

  /** Passes over texts. @throws as `uint` */
  async skipTexts(texts: number): Promise<void> {
    for (let i = 0; i < texts; i++) {
      if (!this.#has(8)) await this.#fill(8)
      this.skip(this.#uint64())
    }
  }

  /** @throws as `uint` */
  skip(bytes: number): void {
    this.#mustHave(bytes)
    this.#at += bytes
  }

  invalid(why: string): MeshError {
    return invalidModel(this.path, why)
  }

  #uint64(): number {
    const low = this.#piece.readUInt32LE(this.#at)
    const high = this.#piece.readUInt32LE(this.#at + 4)
    this.#at += 8
    return high * 2 ** 32 + low
  }

  #has(bytes: number): boolean {
    return this.#at + bytes <= this.#piece.byteLength
  }

  #mustHave(bytes: number): void {
    if (bytes > this.bytesLeft) {
      throw this.invalid(
        `is incomplete: its header goes on behind its ${count(this.sizeBytes)} bytes, or says what is not so`,
      )
    }
    if (this.position + bytes > this.#mostBytes) {
      throw this.invalid(`has a header of more than ${count(this.#mostBytes)} bytes`)
    }
  }

  async #fill(bytes: number): Promise<void> {
    this.#mustHave(bytes)
    this.#signal?.throwIfAborted()
    const start = this.position
    const piece = Buffer.allocUnsafe(Math.min(Math.max(bytes, PIECE_BYTES), this.bytesLeft))
    let read = 0
    while (read < bytes) {
      const { bytesRead } = await this.#file.read(piece, read, piece.byteLength - read, start + read)
      if (bytesRead === 0) throw this.invalid('became shorter while it was read')
      read += bytesRead
    }
    this.#piece = piece.subarray(0, read)
    this.#start = start
    this.#at = 0
  }
}

/** 2984000 as `2,984,000`. */
export function count(value: number): string {
  return value.toLocaleString('en-US')
}
