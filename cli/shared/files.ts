import { messageOf, systemCode } from '../../lib/protocol/index.js'

const WORDS: Partial<Record<string, string>> = {
  ENOENT: 'does not exist',
  ENOTDIR: 'lies in what is no folder',
  EISDIR: 'is a folder',
  EACCES: 'may not be opened by this user',
}

/** What is wrong with a file, for people. */
export function fileFault(path: string, err: unknown): string {
  return `${path} ${WORDS[systemCode(err) ?? ''] ?? `cannot be used: ${messageOf(err)}`}`
}
