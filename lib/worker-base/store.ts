import { join } from 'node:path'
import type Corestore from 'corestore'
import type Hypercore from 'hypercore'
import HypercoreStorage from 'hypercore-storage'
import Rache from 'rache'
import { readStorePid, writeStorePid } from '../home/index.js'
import { isDiskFull, MeshError, messageOf, systemCode } from '../protocol/index.js'
import { ensureDeviceFile, openCorestore } from '../store/index.js'
import type { Facility } from './facility.js'
import { trimStoreLog } from './store-log.js'

/** Blocks of trees that are kept in memory, about 2 KB each. The library's own bound is 16 times as many. */
const CACHED_BLOCKS = 4096
/** A journal's blocks are up to 100 KB, and hardly any is read twice. */
const CACHED_JOURNAL_BLOCKS = 64
/** What RocksDB gathers in memory before it writes a table; it may hold two. The library's own bound is 64 MiB. */
const WRITE_BUFFER_BYTES = 4 * 1024 * 1024
/** Nodes of the cores' Merkle trees that are kept in memory: appending needs the newest. The library's own bound is 8192. */
const CACHED_TREE_NODES = 2048

const TRIM_LOG_MS = 3_600_000

/** The worker's Corestore: every hypercore it writes or replicates. */
export class Store implements Facility {
  readonly name = 'store'
  readonly #dir: string
  readonly #workerDir: string
  #trimTimer: NodeJS.Timeout | undefined
  #opened: { storage: HypercoreStorage; corestore: Corestore } | undefined

  constructor(workerDir: string) {
    this.#dir = join(workerDir, 'store')
    this.#workerDir = workerDir
  }

  get corestore(): Corestore {
    return this.#present.corestore
  }

  get #present() {
    if (this.#opened === undefined) throw new Error('the store is not open yet')
    return this.#opened
  }

  /** @throws MeshError STORE_LOCKED when another process has the store open, STORE_INVALID when it cannot be read */
  async start(): Promise<void> {
    try {
      await ensureDeviceFile(this.#dir)
      const storage = new HypercoreStorage(this.#dir, {
        writeBufferSize: WRITE_BUFFER_BYTES,
        treeCache: { maxSize: CACHED_TREE_NODES },
      })
      const corestore = openCorestore(storage, { globalCache: new Rache({ maxSize: CACHED_BLOCKS }) })
      this.#opened = { storage, corestore }
      await corestore.ready()
    } catch (err) {
      const message = messageOf(err)
      // What the system says has a path in it, which may be any word.
      if (systemCode(err) === undefined && !isDiskFull(err) && /lock/i.test(message)) {
        const holder = readStorePid(this.#workerDir)
        throw MeshError.STORE_LOCKED(
          `${this.#dir} is in use by ${holder === undefined ? 'another process' : `the process with pid ${holder}`}. Stop that worker first, or give this one another --rack or --data-dir`,
          { pid: holder },
          { cause: err },
        )
      }
      if (/invalid device file/i.test(message)) {
        throw MeshError.STORE_INVALID(
          `${this.#dir} was copied or moved here. \`infermesh adopt\` makes it this machine's, once the one that it was copied from runs no more: two that run would each write on, and the mesh could trust neither`,
          {},
          { cause: err },
        )
      }
      if (isDiskFull(err)) {
        throw MeshError.DISK_FULL(
          `${this.#dir} cannot be opened, because its disk is full: make room there`,
          {},
          { cause: err },
        )
      }
      throw MeshError.STORE_INVALID(`${this.#dir} cannot be opened: ${message}`, {}, { cause: err })
    }
    writeStorePid(this.#workerDir)
    this.#trimLog()
    this.#trimTimer = setInterval(() => this.#trimLog(), TRIM_LOG_MS).unref()
  }

  async stop(): Promise<void> {
    clearInterval(this.#trimTimer)
    await this.#opened?.corestore.close()
  }

  #trimLog(): void {
    trimStoreLog(join(this.#dir, 'db'))
  }

  /** Puts what was written so far on the disk, where also a power cut leaves it. */
  async persist(): Promise<void> {
    await this.#present.storage.db.flush()
  }

  /** A core of this worker's own. @param encryptionKey blocks are readable only with it */
  own(name: string, encryptionKey?: Uint8Array): Hypercore {
    return this.corestore.get(encryptionKey ? { name, encryption: { key: encryptionKey } } : { name })
  }

  /** A journal. @param which the name of this gateway's own, or the key of one that is replicated */
  journal(which: string | Uint8Array = 'journal'): Hypercore {
    const globalCache = new Rache({ maxSize: CACHED_JOURNAL_BLOCKS })
    return this.corestore.get(typeof which === 'string' ? { name: which, globalCache } : { key: which, globalCache })
  }

  /** A replica of another worker's core. */
  replica(key: Uint8Array, encryptionKey?: Uint8Array): Hypercore {
    return this.corestore.get(encryptionKey ? { key, encryption: { key: encryptionKey } } : { key })
  }
}
