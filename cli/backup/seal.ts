import { randomBytes } from 'node:crypto'
import sodium from 'sodium-universal'
import { MeshError } from '../../lib/protocol/index.js'

/**
 * How a backup is encrypted: a head that anyone can read, and after it pieces of 64 KiB, each encrypted and authenticated
 * with its place (XChaCha20-Poly1305, libsodium's secretstream). The last one says that it is the last, so that a file that
 * was cut is known for one. The head is authenticated with the first piece.
 *
 * The head: 16 bytes of magic, one for the version, one for the kind of secret, argon2id's passes and its memory in KiB (4
 * bytes each, little endian), 16 of salt, 16 by which a wrong secret is told from a changed file, 24 of secretstream's own.
 */

const MAGIC = Buffer.from('infermesh-backup')
export const VERSION = 1
const KINDS = { passphrase: 1, keyFile: 2 } as const
const PIECE_BYTES = 64 * 1024
const MIB = 1024 * 1024
const {
  crypto_secretstream_xchacha20poly1305_ABYTES: OVERHEAD,
  crypto_secretstream_xchacha20poly1305_HEADERBYTES: STREAM_HEAD_BYTES,
  crypto_secretstream_xchacha20poly1305_STATEBYTES: STATE_BYTES,
  crypto_secretstream_xchacha20poly1305_TAG_MESSAGE: MESSAGE,
  crypto_secretstream_xchacha20poly1305_TAG_FINAL: FINAL,
} = sodium
const SEALED_BYTES = PIECE_BYTES + OVERHEAD
const SALT = { at: 26, bytes: 16 } as const
const CHECK = { at: SALT.at + SALT.bytes, bytes: 16 } as const
const STREAM_AT = CHECK.at + CHECK.bytes
const HEAD_BYTES = STREAM_AT + STREAM_HEAD_BYTES
/**
 * What a file may ask for before anything of it is believed: argon2id with more would take a small machine's memory, and
 * knows no less.
 */
const PASSES = { min: 1, max: 10 } as const
const MEMORY_KIB = { min: 8, max: 1024 * 1024 } as const

/** What a backup is encrypted with. */
export interface Secret {
  kind: keyof typeof KINDS
  bytes: Buffer
}

/** Encrypts what comes. */
export async function* seal(plain: AsyncIterable<Buffer>, secret: Secret): AsyncGenerator<Buffer> {
  const head = Buffer.alloc(HEAD_BYTES)
  MAGIC.copy(head)
  head.writeUInt8(VERSION, 16)
  head.writeUInt8(KINDS[secret.kind], 17)
  head.writeUInt32LE(sodium.crypto_pwhash_OPSLIMIT_MODERATE, 18)
  head.writeUInt32LE(sodium.crypto_pwhash_MEMLIMIT_MODERATE / 1024, 22)
  randomBytes(SALT.bytes).copy(head, SALT.at)
  const key = await keyOf(secret, head)
  checkOf(head, key).copy(head, CHECK.at)
  const state = Buffer.alloc(STATE_BYTES)
  sodium.crypto_secretstream_xchacha20poly1305_init_push(state, head.subarray(STREAM_AT), key)
  yield head
  let ad: Buffer | null = head
  const sealed = (piece: Buffer, tag: number): Buffer => {
    const out = Buffer.alloc(piece.byteLength + OVERHEAD)
    sodium.crypto_secretstream_xchacha20poly1305_push(state, out, piece, ad, tag)
    ad = null
    return out
  }
  // The last piece is known for that only when nothing follows.
  let waiting: Buffer | undefined
  for await (const piece of inPieces(plain, PIECE_BYTES)) {
    if (waiting !== undefined) yield sealed(waiting, MESSAGE)
    waiting = piece
  }
  yield sealed(waiting ?? Buffer.alloc(0), FINAL)
}

/**
 * Decrypts a backup. What it gives is authentic as far as it goes; only when it has ended is the backup whole.
 * @param name what the file is called in messages
 * @throws MeshError BAD_REQUEST for what is no backup, is of a later version, was cut or changed, or has another secret
 */
export async function* unseal(sealed: AsyncIterable<Buffer>, secret: Secret, name: string): AsyncGenerator<Buffer> {
  const damaged = (what: string) =>
    MeshError.BAD_REQUEST(`${name} ${what}: nothing was restored. Take another backup, or copy this one anew`)
  const source = new Pieces(sealed)
  const head = await source.take(HEAD_BYTES)
  mustBeBackup(head, name)
  const key = await keyOf(secret, head)
  if (!checkOf(head, key).equals(head.subarray(CHECK.at, CHECK.at + CHECK.bytes))) {
    throw MeshError.BAD_REQUEST(
      `${name} does not open with this ${SECRET_WORDS[secret.kind]}: it is a wrong one, or the beginning of the file was changed`,
    )
  }
  const state = Buffer.alloc(STATE_BYTES)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, head.subarray(STREAM_AT), key)
  const tag = Buffer.alloc(1)
  for (let ad: Buffer | null = head; tag[0] !== FINAL; ad = null) {
    const piece = await source.take(SEALED_BYTES)
    if (piece.byteLength < OVERHEAD) throw damaged('was cut: its end is missing')
    const plain = Buffer.alloc(piece.byteLength - OVERHEAD)
    try {
      sodium.crypto_secretstream_xchacha20poly1305_pull(state, plain, tag, piece, ad)
    } catch {
      throw damaged('was changed or cut since it was written')
    }
    yield plain
  }
  if ((await source.take(1)).byteLength > 0)
    throw damaged('has something behind its end, which was not written with it')
}

const SECRET_WORDS = { passphrase: 'passphrase', keyFile: 'key file' } as const

/** What the head of a backup says that it is opened with. @throws MeshError BAD_REQUEST for what is no backup */
export function kindOf(head: Buffer, name: string): Secret['kind'] {
  mustBeBackup(head, name)
  return head.readUInt8(17) === KINDS.keyFile ? 'keyFile' : 'passphrase'
}

/** Whether a file that begins so is a backup, of whatever version, or a part of one. */
export function hasMagic(head: Buffer): boolean {
  return head.subarray(0, MAGIC.byteLength).equals(MAGIC)
}

function mustBeBackup(head: Buffer, name: string): void {
  if (!hasMagic(head) || head.byteLength <= MAGIC.byteLength) {
    throw MeshError.BAD_REQUEST(`${name} is no backup of infermesh, or its beginning was changed`)
  }
  const version = head.readUInt8(16)
  if (version > VERSION) {
    throw MeshError.BAD_REQUEST(
      `${name} is a backup of version ${version}, and this infermesh reads up to ${VERSION}: restore it with the version that wrote it, or a later one`,
    )
  }
  const isKnown = version === VERSION && head.byteLength === HEAD_BYTES
  const isBounded = isKnown && isWithin(head.readUInt32LE(18), PASSES) && isWithin(head.readUInt32LE(22), MEMORY_KIB)
  if (!isBounded) throw MeshError.BAD_REQUEST(`${name} was cut, or its beginning was changed`)
}

function isWithin(value: number, { min, max }: { min: number; max: number }): boolean {
  return value >= min && value <= max
}

/** As much of a file as `kindOf` wants. */
export const headBytes = HEAD_BYTES

async function keyOf({ kind, bytes }: Secret, head: Buffer): Promise<Buffer> {
  const key = Buffer.alloc(32)
  const salt = head.subarray(SALT.at, SALT.at + SALT.bytes)
  if (kind === 'keyFile') sodium.crypto_generichash(key, bytes, salt)
  else {
    const memory = head.readUInt32LE(22) * 1024
    const algorithm = sodium.crypto_pwhash_ALG_ARGON2ID13
    try {
      await sodium.crypto_pwhash_async(key, bytes, salt, head.readUInt32LE(18), memory, algorithm)
    } catch (cause) {
      const text = `This passphrase takes ${memory / MIB} MiB of memory to check, which this machine does not give`
      throw MeshError.REFUSED(text, {}, { cause })
    }
  }
  return key
}

function checkOf(head: Buffer, key: Buffer): Buffer {
  const check = Buffer.alloc(CHECK.bytes)
  sodium.crypto_generichash(check, head.subarray(0, CHECK.at), key)
  return check
}

async function* inPieces(chunks: AsyncIterable<Buffer>, bytes: number): AsyncGenerator<Buffer> {
  const source = new Pieces(chunks)
  for (let piece = await source.take(bytes); piece.byteLength > 0; piece = await source.take(bytes)) yield piece
}

/** Bytes of a stream, as many at a time as are asked for. */
export class Pieces {
  readonly #chunks: AsyncIterator<Buffer>
  #waiting: Buffer[] = []
  #bytes = 0

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]()
  }

  /** So many bytes; fewer at the end of the stream, and none after it. */
  async take(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) {
      const next = await this.#chunks.next()
      if (next.done) break
      this.#waiting.push(next.value)
      this.#bytes += next.value.byteLength
    }
    const all = this.#waiting.length === 1 ? (this.#waiting[0] ?? Buffer.alloc(0)) : Buffer.concat(this.#waiting)
    const rest = all.subarray(bytes)
    this.#waiting = rest.byteLength > 0 ? [rest] : []
    this.#bytes = rest.byteLength
    return all.subarray(0, bytes)
  }
}
