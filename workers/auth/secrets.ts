import { chmodSync, existsSync, readFileSync } from 'node:fs'
import { writeFileAtomic } from '../../lib/home/index.js'

/** The text of a file that only its owner may read; undefined where there is none. */
export function readSecretFile(path: string): string | undefined {
  if (!existsSync(path)) return undefined
  chmodSync(path, 0o600)
  return readFileSync(path, 'utf8').trim()
}

export function writeSecretFile(path: string, text: string): void {
  writeFileAtomic(path, `${text}\n`, 0o600)
}
