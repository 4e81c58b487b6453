import { readFileSync, statSync } from 'node:fs'
import { MeshError } from '../../lib/protocol/index.js'
import { fileFault } from '../shared/files.js'
import { askSecret, askTwice } from '../shared/password.js'
import type { Secret } from './seal.js'

/** What a backup is opened with: a passphrase, or a file with a key. Never an argument: others of the machine see those. */

export interface SecretOptions {
  passphraseFile?: string
  keyFile?: string
}

const MIN_PASSPHRASE_CHARS = 8
const MIN_KEY_BYTES = 32
const MAX_KEY_BYTES = 1024 * 1024
/** Standard input. */
const STDIN = 0

/**
 * The secret that the options name; else a passphrase, asked for on the terminal.
 * @param use `new` where a backup is made: a passphrase is asked for twice, and must not be short
 * @throws MeshError BAD_REQUEST, Interrupted
 */
export async function readBackupSecret(
  { passphraseFile, keyFile }: SecretOptions,
  use: 'new' | 'open',
): Promise<Secret> {
  if (passphraseFile !== undefined && keyFile !== undefined) {
    throw MeshError.BAD_REQUEST('--passphrase-file and --key-file: a backup has one secret, name one of them')
  }
  if (keyFile !== undefined) return { kind: 'keyFile', bytes: readKey(keyFile) }
  const text = passphraseFile === undefined ? await ask(use) : readLine(passphraseFile)
  if (use === 'new' && [...text].length < MIN_PASSPHRASE_CHARS) {
    throw MeshError.BAD_REQUEST(
      `The passphrase has fewer than ${MIN_PASSPHRASE_CHARS} characters: whoever finds the file could guess it`,
    )
  }
  return { kind: 'passphrase', bytes: Buffer.from(text.normalize('NFC')) }
}

async function ask(use: 'new' | 'open'): Promise<string> {
  if (process.stdin.isTTY !== true) {
    throw MeshError.BAD_REQUEST(
      'There is no terminal to ask for the passphrase on: give --passphrase-file <file>, - for standard input, or --key-file <file>',
    )
  }
  return use === 'new'
    ? askTwice('Passphrase for the backup: ', 'passphrases')
    : askSecret('Passphrase of the backup: ')
}

function readLine(path: string): string {
  const [line = ''] = read(path, '--passphrase-file').toString('utf8').split(/\r?\n/)
  if (line === '') throw MeshError.BAD_REQUEST(`--passphrase-file ${path}: its first line is empty`)
  return line
}

function readKey(path: string): Buffer {
  const bytes = read(path, '--key-file')
  if (bytes.byteLength >= MIN_KEY_BYTES && bytes.byteLength <= MAX_KEY_BYTES) return bytes
  throw MeshError.BAD_REQUEST(
    `--key-file ${path} has ${bytes.byteLength} bytes: expected ${MIN_KEY_BYTES} to ${MAX_KEY_BYTES} random ones, such as \`openssl rand -out ${path} 32\` makes`,
  )
}

function read(path: string, option: string): Buffer {
  try {
    if (path !== '-' && statSync(path).size > MAX_KEY_BYTES)
      throw MeshError.BAD_REQUEST(`${option} ${path} is too long`)
    return readFileSync(path === '-' ? STDIN : path)
  } catch (err) {
    if (err instanceof MeshError) throw err
    throw MeshError.BAD_REQUEST(`${option}: ${fileFault(path, err)}`)
  }
}
