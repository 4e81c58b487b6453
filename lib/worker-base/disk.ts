import { statfs } from 'node:fs/promises'
import { MeshError } from '../protocol/index.js'
import type { Facility } from './facility.js'

const CHECK_MS = 1000
const MIB = 2 ** 20

/**
 * The free room of the disk that a worker's stores lie on, looked at every second. Whoever stores something that must not
 * fail half-way asks for more room than it needs, so that what is under way finds some when others have filled the rest.
 */
export class Disk implements Facility {
  readonly name = 'disk'
  readonly #dir: string
  #freeBytes: number | undefined
  #timer: NodeJS.Timeout | undefined
  #checking: Promise<void> | undefined

  constructor(dir: string) {
    this.#dir = dir
  }

  async start(): Promise<void> {
    await this.#check()
    // A file system that hangs is asked once.
    this.#timer = setInterval(() => {
      this.#checking ??= this.#check().finally(() => {
        this.#checking = undefined
      })
    }, CHECK_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
  }

  /** Bytes that this process may still write, a second ago at most; undefined where the system does not tell. */
  get freeBytes(): number | undefined {
    return this.#freeBytes
  }

  /**
   * Why nothing more should be begun that is to be stored; undefined where there is room.
   * @param minFreeBytes what must be free
   * @param who whose disk it is, and what follows: `This gateway`, `it takes no requests`
   */
  shortage(minFreeBytes: number, who: string, so: string): MeshError | undefined {
    const free = this.#freeBytes
    if (free === undefined || free >= minFreeBytes) return undefined
    return MeshError.DISK_FULL(
      `${who} has ${Math.floor(free / MIB)} MiB of disk left and keeps ${Math.ceil(minFreeBytes / MIB)} MiB for what is under way: ${so} until there is room`,
      { retryAfterMs: 10_000 },
    )
  }

  async #check(): Promise<void> {
    try {
      const { bavail, bsize, files, ffree } = await statfs(this.#dir)
      // Without a name that is free no file can be begun. Some file systems do not count them.
      this.#freeBytes = files > 0 && ffree === 0 ? 0 : bavail * bsize
    } catch {
      this.#freeBytes = undefined
    }
  }
}
