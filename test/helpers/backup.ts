import { randomBytes } from 'node:crypto'
import { readdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Test } from 'brittle'
import { infermesh } from './mesh.js'

/** A file with a key: a passphrase takes most of a second each time. */
export async function keyFile(t: Test): Promise<string> {
  const path = join(await t.tmp(), 'backup.key')
  writeFileSync(path, randomBytes(32), { mode: 0o600 })
  return path
}

/** Backs a home up. @returns the file */
export async function backUp(t: Test, home: string, key: string): Promise<string> {
  const { code, stdout, stderr } = await infermesh(['backup', await t.tmp(), '--key-file', key, '--json'], { home })
  if (code !== 0) throw new Error(stderr)
  return (JSON.parse(stdout) as { file: string }).file
}

/** Makes a home of a backup, without looking for 2 s whether the original runs. */
export async function restoreTo(home: string, file: string, key: string): Promise<void> {
  const { code, stderr } = await infermesh(['restore', file, '--key-file', key, '--force'], { home })
  if (code !== 0) throw new Error(stderr)
}

/** What a restore that did not end left beside the home. */
export function leftBeside(home: string): string[] {
  return readdirSync(dirname(home)).filter((name) => name.startsWith(`${basename(home)}.`))
}
