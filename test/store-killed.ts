import fs from 'node:fs'
import { Store } from '../lib/worker-base/index.js'

/** `store-killed.js <dir>`: opens a store for the first time, and is killed when the file that marks it has been made. */

const write = fs.write
Object.assign(fs, {
  write(...args: unknown[]) {
    if (args.some((arg) => Buffer.isBuffer(arg) && arg.includes('device/inode'))) process.kill(process.pid, 'SIGKILL')
    return Reflect.apply(write, fs, args)
  },
})

await new Store(process.argv[2] ?? '').start()
