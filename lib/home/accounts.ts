import { join } from 'node:path'
import { z } from 'zod'
import { encodedKeySchema, MeshError, messageOf, parseJson, validate } from '../protocol/index.js'
import { readSecret, writeSecret } from './secrets.js'

/** How the accounts are read: each worker that does keeps it in its own directory, with mode 0600. */

const KEY_FILE = 'accounts.key'
const ACCESS_FILE = 'accounts.json'
/** What the accounts' core is called in the authority's store where its file names none, as early builds wrote it. */
const FIRST_CORE = 'accounts'
const KEY = /^([0-9a-f]{64})(?: (accounts-[0-9a-f]{16}))?$/

/** Where the authority keeps which core holds the accounts, for messages. */
export function accountsKeyPath(workerDir: string): string {
  return join(workerDir, KEY_FILE)
}

/** Which of the authority's cores holds the accounts, and what its blocks are encrypted with. */
export interface AccountsKey {
  /** The core's name in the authority's store. */
  core: string
  encryptionKey: Buffer
}

/**
 * Which core holds the accounts; undefined before the first start. This file alone says it: a core that it does not name
 * is an earlier one, or one that was not finished.
 * @throws MeshError STORE_INVALID when the file cannot be read or says something else
 */
export function readAccountsKey(workerDir: string): AccountsKey | undefined {
  const path = accountsKeyPath(workerDir)
  const text = readSecret(path)
  if (text === undefined) return undefined
  const [, hex, core = FIRST_CORE] = KEY.exec(text) ?? []
  if (hex === undefined) {
    throw MeshError.STORE_INVALID(`${path} is no key: expected 64 hexadecimal digits. Restore it from a backup`)
  }
  return { core, encryptionKey: Buffer.from(hex, 'hex') }
}

/** Makes a core the one that holds the accounts. */
export function writeAccountsKey(workerDir: string, { core, encryptionKey }: AccountsKey): void {
  const hex = encryptionKey.toString('hex')
  writeSecret(accountsKeyPath(workerDir), core === FIRST_CORE ? hex : `${hex} ${core}`)
}

/**
 * The core key of the accounts, the key that its blocks are encrypted with, as hex, and how long they were when they had been
 * read whole; early builds did not write that.
 */
const accountsAccessSchema = z.object({
  accounts: encodedKeySchema,
  accountsEncryptionKey: z.string().regex(/^[0-9a-f]{64}$/),
  length: z.int().min(0).optional(),
})
export type AccountsAccess = z.infer<typeof accountsAccessSchema>

/**
 * How a gateway reads the accounts, as it was told last; undefined where it never was.
 * @throws MeshError STORE_INVALID when the file cannot be read or says something else
 */
export function readAccountsAccess(workerDir: string): AccountsAccess | undefined {
  const path = join(workerDir, ACCESS_FILE)
  const text = readSecret(path)
  if (text === undefined) return undefined
  try {
    return validate(accountsAccessSchema, parseJson(Buffer.from(text), path), path)
  } catch (err) {
    throw MeshError.STORE_INVALID(
      `${messageOf(err)}. Delete it: the authority tells this gateway anew, once it can be reached`,
      {},
      { cause: err },
    )
  }
}

/** Keeps how the accounts are read, so that a gateway can start while the authority is down. */
export function writeAccountsAccess(workerDir: string, access: AccountsAccess): void {
  writeSecret(join(workerDir, ACCESS_FILE), JSON.stringify(access))
}
