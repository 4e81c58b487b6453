import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { makePrivateDir } from './files.js'

/** The logs of a home: `<role>-<name>.log`, and the older ones of it, `.1` the newest. */

/** A log that would grow past this is put aside. */
const MAX_BYTES = 10 * 1024 * 1024
/** So is one that was begun this long ago: what is looked for in a quiet log is not years old. */
const MAX_AGE_MS = 7 * 24 * 3_600_000
/** Logs put aside that are kept of one worker: with the one that grows 50 MiB. */
const KEPT = 4
/** Wait before a file that could not be opened, or put aside, is tried again. */
const RETRY_MS = 1000

export interface LogFileOptions {
  maxBytes?: number
  maxAgeMs?: number
  kept?: number
  /** Milliseconds since the epoch: the age of a file is by its date. */
  now?: () => number
}

/** Where a log that was put aside lies. @param age 1: the newest */
export function olderLog(path: string, age: number): string {
  return `${path}.${age}`
}

/** A log that is written here: bounded in size, and no reason to end for want of room. */
export class LogFile {
  readonly #path: string
  readonly #options: Required<LogFileOptions>
  #fd: number | undefined
  #size = 0
  #begunAt = 0
  /** Not before this moment of the clock for durations. */
  #retryAt = Number.NEGATIVE_INFINITY

  constructor(path: string, options: LogFileOptions = {}) {
    this.#path = path
    this.#options = { maxBytes: MAX_BYTES, maxAgeMs: MAX_AGE_MS, kept: KEPT, now: Date.now, ...options }
  }

  /**
   * Appends a line, which ends with a line feed. Never throws.
   * @returns false where it could not be written: nothing of it is in the file then
   */
  write(line: string): boolean {
    const bytes = Buffer.from(line)
    this.#turn(bytes.byteLength)
    if (this.#fd === undefined) return false
    let written = 0
    try {
      while (written < bytes.byteLength) written += writeSync(this.#fd, bytes, written)
      this.#size += written
      return true
    } catch {
      this.#takeBack(this.#fd, written)
      return false
    }
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = undefined
  }

  /** Opens the file, or puts it aside and begins another, where either is due. Never throws. */
  #turn(nextBytes: number): void {
    if (this.#fd !== undefined && !this.#isOver(nextBytes)) return
    if (performance.now() < this.#retryAt) return
    try {
      if (this.#fd === undefined) this.#open()
      if (this.#isOver(nextBytes)) {
        this.#putAside()
        this.#open()
      }
    } catch {
      // What is open is written on.
      this.#retryAt = performance.now() + RETRY_MS
    }
  }

  #isOver(nextBytes: number): boolean {
    const { maxBytes, maxAgeMs, now } = this.#options
    return this.#size > 0 && (this.#size + nextBytes > maxBytes || now() - this.#begunAt > maxAgeMs)
  }

  #open(): void {
    makePrivateDir(dirname(this.#path))
    const fd = openSync(this.#path, 'a', 0o600)
    if (this.#fd !== undefined) closeSync(this.#fd)
    this.#fd = fd
    const { size, birthtimeMs, mtimeMs } = fstatSync(fd)
    this.#size = size
    // Some file systems know no birth.
    this.#begunAt = birthtimeMs > 0 ? birthtimeMs : mtimeMs
  }

  #putAside(): void {
    // It is aside already where the new one could not be opened.
    if (!existsSync(this.#path)) return
    const { kept } = this.#options
    if (kept === 0) return rmSync(this.#path)
    for (let age = kept - 1; age >= 1; age--) {
      const older = olderLog(this.#path, age)
      if (existsSync(older)) renameSync(older, olderLog(this.#path, age + 1))
    }
    renameSync(this.#path, olderLog(this.#path, 1))
  }

  /** Half a line would make another of the next. Another process may have written meanwhile, and loses nothing by this. */
  #takeBack(fd: number, bytes: number): void {
    if (bytes === 0) return
    try {
      ftruncateSync(fd, fstatSync(fd).size - bytes)
    } catch {
      this.#size += bytes
    }
  }
}
