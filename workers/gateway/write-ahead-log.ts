import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { MeshError, messageOf } from '../../lib/protocol/index.js'

interface Line {
  number: number
  text: string
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
  #opened: Parts | undefined
  /** Lines that could not be written yet. */
  #owed: Line[] = []

  constructor(dir: string) {
    this.#dir = dir
  }

  /**
   * Opens the files.
   * @returns what they hold, oldest first. A line whose end is missing was never acknowledged, and is left out
   * @throws MeshError STORE_INVALID naming the file and line that cannot be read
   */
  open(): Line[] {
    const a = openPart(join(this.#dir, 'journal-a.wal'))
    const b = openPart(join(this.#dir, 'journal-b.wal'))
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

function openPart(path: string): { part: Part; lines: Line[] } {
  let fd: number
  try {
    // Not for appending: Windows lets nobody shorten such a file.
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
  } catch (cause) {
    throw MeshError.STORE_INVALID(`${path} cannot be written: ${messageOf(cause)}`, {}, { cause })
  }
  const content = readFileSync(path, 'utf8')
  const whole = content.slice(0, content.lastIndexOf('\n') + 1)
  const size = Buffer.byteLength(whole)
  ftruncateSync(fd, size)
  const lines = whole
    .split('\n')
    .slice(0, -1)
    .map((line, i) => {
      const space = line.indexOf(' ')
      const number = Number(line.slice(0, space))
      if (space < 1 || !Number.isSafeInteger(number)) {
        throw MeshError.STORE_INVALID(`${path}, line ${i + 1}: expected a number and a usage record`)
      }
      return { number, text: line.slice(space + 1) }
    })
  return { part: { fd, size, last: lines.at(-1)?.number ?? -1 }, lines }
}
