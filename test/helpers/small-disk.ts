import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BLOCK = 64 * 1024

/** A disk of a given size, in a folder of its own, which is there until this process ends. */
export class SmallDisk {
  readonly dir: string

  private constructor(dir: string) {
    this.dir = dir
  }

  /** @param size as `mount` takes it, such as `64k`. @returns undefined where this system or these rights have none to give */
  static make(size: string): SmallDisk | undefined {
    const dir = mkdtempSync(join(tmpdir(), 'infermesh-small-'))
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', dir], { stdio: 'ignore' })
    process.once('exit', () => {
      // At once for the name, later for who has a file open still.
      if (status === 0) spawnSync('umount', ['--lazy', dir], { stdio: 'ignore' })
      rmSync(dir, { recursive: true, force: true })
    })
    return status === 0 ? new SmallDisk(dir) : undefined
  }

  /** Takes all the room that is left, to the last byte. */
  fill(): void {
    const file = openSync(join(this.dir, 'filler'), 'a')
    try {
      for (let size = BLOCK; size >= 1; ) {
        try {
          if (writeSync(file, Buffer.alloc(size)) < size) size = Math.floor(size / 2)
        } catch {
          size = Math.floor(size / 2)
        }
      }
    } finally {
      closeSync(file)
    }
  }

  /** Gives that room back. */
  free(): void {
    rmSync(join(this.dir, 'filler'), { force: true })
  }
}

export const NO_SMALL_DISK = 'no small disk can be mounted here'
