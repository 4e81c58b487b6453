import { readdirSync, rmSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'

/** What the current log may take on disk. */
const MAX_BYTES = 4 * 1024 * 1024
/** What `stat` counts blocks in. */
const BLOCK_BYTES = 512

/**
 * RocksDB tells what it does in a log beside its tables: 1.4 MB a day of statistics alone, and it keeps the logs of a
 * thousand former starts. It can be told to keep less, but not through the library between. Never throws.
 * @param dir RocksDB's own
 */
export function trimStoreLog(dir: string): void {
  try {
    for (const name of readdirSync(dir)) if (name.startsWith('LOG.old.')) rmSync(join(dir, name), { force: true })
    const log = join(dir, 'LOG')
    // RocksDB goes on where it was, so that the file seems as long as ever; what comes before takes no room any more.
    if (statSync(log).blocks * BLOCK_BYTES > MAX_BYTES) truncateSync(log)
  } catch {
    // No store yet, or a system that lets nobody touch a file that is open. The next time, then.
  }
}
