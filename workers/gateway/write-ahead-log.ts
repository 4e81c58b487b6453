import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { MeshError, messageOf, parseJson } from '../../lib/protocol/index.js'

interface Line {
  number: number
  text: string
}

const NEWLINE = 0x0a
const SPACE = 0x20

/** What of a file could not be read when it was opened. */
export interface Lost {
  path: string
  bytes: number
  /** It is the beginning of one record, which nobody was told of: the process was killed while it wrote that. */
  isHalfRecord: boolean
}

/** Room that is wanted after there was none: a line has about 400 bytes. */
const ROOM_BYTES = 64 * 1024

/** One file of the two. `size` in bytes; `last`: number of its newest line, -1 while it is empty. */
interface Part {
  fd: number
  size: number
  last: number
}

/** The file that is written to, and the one that is being stored. */
interface Parts {
  current: Part
  other: Part
}

/**
 * Numbered lines on disk, kept until they are told to be stored elsewhere. Two files take turns: while one is being
 * stored the other is written to, and each is emptied once all of it is stored.
 *
 * A line that was written survives the end of this process, whatever ends it: it is with the operating system then.
 */
export class WriteAheadLog {
  readonly #dir: string
  readonly #onLost: (lost: Lost) => void
  #opened: Parts | undefined
  /** Lines that could not be written yet. */
  #owed: Line[] = []

  /** @param onLost told of each file of which something cannot be read */
  constructor(dir: string, onLost: (lost: Lost) => void = () => {}) {
    this.#dir = dir
    this.#onLost = onLost
  }

  /**
   * Opens the files.
   * @returns the records that they hold, oldest first; what cannot be read is left out
   * @throws MeshError STORE_INVALID naming the file that cannot be opened
   */
  open(): Line[] {
    const a = openPart(join(this.#dir, 'journal-a.wal'), this.#onLost)
    const b = openPart(join(this.#dir, 'journal-b.wal'), this.#onLost)
    const [older, newer] = a.part.last < b.part.last ? [a, b] : [b, a]
    this.#opened = { current: newer.part, other: older.part }
    return [...older.lines, ...newer.lines]
  }

  /**
   * Writes one line, and before it those that could not be written.
   * @throws Error of the file system; the file is as before then
   */
  append(number: number, text: string): void {
    const { current: part } = this.#parts
    this.#owed.push({ number, text })
    const bytes = Buffer.from(this.#owed.map((line) => `${line.number} ${line.text}\n`).join(''))
    let written = 0
    try {
      while (written < bytes.byteLength) {
        written += writeSync(part.fd, bytes, written, bytes.byteLength - written, part.size + written)
      }
    } catch (err) {
      if (written > 0) ftruncateSync(part.fd, part.size)
      throw err
    }
    this.#owed = []
    part.size += bytes.byteLength
    part.last = number
  }

  /** Tries whether there is room for some lines more. @throws Error of the file system; the file is as before */
  assertRoom(): void {
    const { current: part } = this.#parts
    try {
      const written = writeSync(part.fd, Buffer.alloc(ROOM_BYTES), 0, ROOM_BYTES, part.size)
      if (written < ROOM_BYTES) throw new Error('no space left on device for some lines more')
    } finally {
      ftruncateSync(part.fd, part.size)
    }
  }

  /** Lines from here on go to the other file, where that is empty. */
  turn(): void {
    const { current, other } = this.#parts
    if (other.last === -1) this.#opened = { current: other, other: current }
  }

  /** Everything with a number under `next` is stored: empties the files that have nothing else. */
  stored(next: number): void {
    this.#owed = this.#owed.filter(({ number }) => number >= next)
    const { current, other } = this.#parts
    for (const part of [current, other]) {
      if (part.last === -1 || part.last >= next) continue
      ftruncateSync(part.fd, 0)
      part.size = 0
      part.last = -1
    }
  }

  close(): void {
    if (this.#opened === undefined) return
    const { current, other } = this.#opened
    for (const part of [current, other]) closeSync(part.fd)
    this.#opened = undefined
  }

  get #parts(): Parts {
    if (this.#opened === undefined) throw new Error('the write-ahead log is not open')
    return this.#opened
  }
}

/** Opens one file of the two, and cuts off what stands behind its last record that can be read. */
function openPart(path: string, tell: (lost: Lost) => void): { part: Part; lines: Line[] } {
  let fd: number
  try {
    // Not for appending: Windows lets nobody shorten such a file.
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  } catch (cause) {
    throw MeshError.STORE_INVALID(`${path} cannot be written: ${messageOf(cause)}`, {}, { cause })
  }
  const content = readFileSync(path)
  const lines: Line[] = []
  let size = 0
  let readableBytes = 0
  let at = 0
  for (let end = content.indexOf(NEWLINE); end >= 0; end = content.indexOf(NEWLINE, at)) {
    const line = readLine(content.subarray(at, end))
    if (line !== undefined) {
      lines.push(line)
      size = end + 1
      readableBytes += end + 1 - at
    }
    at = end + 1
  }
  const bytes = content.byteLength - readableBytes
  const isHalfRecord = bytes === content.byteLength - at && isBeginning(content.subarray(at))
  if (bytes > 0) tell({ path, bytes, isHalfRecord })
  // What cannot be read in the midst of it goes with the rest, once that is stored.
  ftruncateSync(fd, size)
  return { part: { fd, size, last: lines.at(-1)?.number ?? -1 }, lines }
}

/** One record and its number; undefined where these bytes are no such line. */
function readLine(bytes: Buffer): Line | undefined {
  const space = bytes.indexOf(SPACE)
  const digits = bytes.toString('latin1', 0, Math.max(0, space))
  const number = Number(digits)
  if (!/^\d+$/.test(digits) || !Number.isSafeInteger(number)) return undefined
  const json = bytes.subarray(space + 1)
  try {
    // Whether this version knows such a record is the journal's to say: it may be a later one's, which is not damage.
    parseJson(json, 'a line')
    return { number, text: json.toString() }
  } catch {
    return undefined
  }
}

/** Whether a record begins so: what a process leaves that is killed while it writes. */
function isBeginning(bytes: Buffer): boolean {
  try {
    // The end of a character may be missing, too.
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: true })
    return /^\d+( (\{[^\p{Cc}]*)?)?$/u.test(text)
  } catch {
    return false
  }
}
