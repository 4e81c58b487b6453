import { existsSync, linkSync, mkdirSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import DeviceFile from 'device-file'

/** The file by which a store knows that it is not a copy: it holds its own inode. The library finds it under this name. */
const NAME = 'CORESTORE'

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
    const { code } = err as NodeJS.ErrnoException
    // Somebody was faster; or a file system without links, where the library makes the file.
    if (code !== 'EEXIST' && code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'EOPNOTSUPP') throw err
  } finally {
    rmSync(made, { force: true })
  }
}
