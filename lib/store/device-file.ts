import { existsSync, linkSync, mkdirSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import DeviceFile from 'device-file'
import { systemCode } from '../protocol/index.js'

/** The file by which a store knows that it is not a copy: it holds its own inode. The library finds it under this name. */
const NAME = 'CORESTORE'
/** Somebody was faster; or a file system without links, where the library makes the file. */
const LEFT_TO_OTHERS: ReadonlySet<string> = new Set(['EEXIST', 'EOPNOTSUPP', 'ENOTSUP', 'EPERM'])

/**
 * Makes a store's device file where there is none, whole or not at all. The library makes it empty and writes it then: a
 * process that ends in between leaves a store that nobody can open any more.
 * @param dir the store's folder, which is made where it is not there
 * @throws Error of the file system: no room, no right to write
 */
export async function ensureDeviceFile(dir: string): Promise<void> {
  if (existsSync(join(dir, NAME))) return
  mkdirSync(dir, { recursive: true })
  const made = join(dir, `${NAME}.${process.pid}`)
  try {
    rmSync(made, { force: true })
    const file = new DeviceFile(made, { lock: false })
    await file.ready()
    await file.close()
    const handle = await open(made, 'r+')
    await handle.sync().finally(() => handle.close())
    linkSync(made, join(dir, NAME))
  } catch (err) {
    if (!LEFT_TO_OTHERS.has(systemCode(err) ?? '')) throw err
  } finally {
    rmSync(made, { force: true })
  }
}
