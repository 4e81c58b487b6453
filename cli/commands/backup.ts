import { existsSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Command } from 'commander'
import { findProfile, homePath } from '../../lib/home/index.js'
import { MeshError, systemCode } from '../../lib/protocol/index.js'
import { type Contents, pack } from '../backup/archive.js'
import { seal } from '../backup/seal.js'
import { readBackupSecret, type SecretOptions } from '../backup/secret.js'
import { snapshot } from '../backup/snapshot.js'
import { workersOf } from '../backup/workers.js'
import { isThere, writeNew } from '../backup/write.js'
import { optionsOf } from '../shared/mesh.js'
import { bytesText, counted, dim, print, printJson, warn, withSpinner } from '../shared/output.js'
import { version } from '../shared/version.js'

interface BackupOptions extends SecretOptions {
  withModels?: boolean
}

export function define(command: Command): void {
  command
    .argument(
      '[file]',
      'where to write it: a new file, a folder, or - for standard output (default: the current folder)',
    )
    .option('--passphrase-file <file>', 'read the passphrase from the first line of a file; - for standard input')
    .option('--key-file <file>', 'encrypt with the bytes of this file instead: 32 random ones or more')
    .option('--with-models', 'take the files of added models along')
    .addHelpText(
      'after',
      `
Writes this machine's home into one encrypted file: keys, users, members, usage, settings and what is stored; no logs, and no
model files unless asked for. It may run while the mesh does. \`infermesh restore\` makes a home of it again.

Examples:
  infermesh backup
  infermesh backup /mnt/backups --passphrase-file ~/.backup-passphrase
  infermesh backup - --key-file backup.key | ssh nas "cat > mesh.backup"`,
    )
    .action(async (file: string | undefined, _options, self: Command) => {
      const options = optionsOf<BackupOptions>(self)
      const home = resolve(homePath(options.home))
      const isPiped = file === '-'
      if (isPiped && process.stdout.isTTY) {
        throw MeshError.BAD_REQUEST(
          '- writes the backup to standard output, which is this terminal: send it into a file or a program',
        )
      }
      const workers = workersOf(home)
      if (workers.length === 0) throw MeshError.CONFIG_INVALID(`${home} has no workers: there is nothing to back up`)
      const profile = findProfile(home)
      const path = isPiped ? undefined : pathOf(file ?? '.', profile?.address)
      const secret = await readBackupSecret(options, 'new')

      const write = async () => {
        const at = Date.now()
        const { models, files, close } = await snapshot(home, { withModels: options.withModels === true })
        try {
          const contents: Contents = { version: version(), at, home, host: hostname(), profile, workers, models }
          const sealed = seal(pack(contents, files), secret)
          if (path !== undefined) return { contents, bytes: await writeNew(path, sealed) }
          await pipe(sealed)
          return { contents, bytes: undefined }
        } finally {
          await close()
        }
      }
      const { contents, bytes } = await withSpinner('writing the backup', options.json === true, write())
      if (path !== undefined) report(path, bytes ?? 0, contents, options.json === true)
    })
}

/** @throws MeshError REFUSED where whoever reads standard output ends before all of it is written */
async function pipe(sealed: AsyncIterable<Buffer>): Promise<void> {
  // Elsewhere it is success when a reader has seen enough. Of a backup that is not whole nothing is worth having.
  process.stdout.removeAllListeners('error')
  try {
    await pipeline(Readable.from(sealed), process.stdout)
  } catch (err) {
    if (systemCode(err) !== 'EPIPE') throw err
    throw MeshError.REFUSED(
      'Whoever reads standard output ended before the backup was whole: what it has kept of it cannot be restored',
    )
  }
}

/** @throws MeshError CONFLICT where there is such a file */
function pathOf(file: string, mesh: string | undefined): string {
  const isFolder = existsSync(file) && statSync(file).isDirectory()
  const time = new Date().toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '')
  const path = resolve(isFolder ? join(file, `infermesh-${mesh?.slice(0, 8) ?? 'home'}-${time}.backup`) : file)
  if (existsSync(path)) throw isThere(path)
  return path
}

function report(path: string, sizeBytes: number, { at, profile, workers, models }: Contents, json: boolean): void {
  const leftOut = models.filter(({ file }) => file === undefined)
  if (json) {
    return printJson({
      file: path,
      sizeBytes,
      at,
      mesh: profile?.address,
      workers,
      modelsLeftOut: leftOut.map(({ worker, name, path: from }) => ({ worker, name, path: from })),
    })
  }
  print(`${path}  ${dim(`${bytesText(sizeBytes)}, ${counted(workers.length, 'worker')}`)}`)
  for (const { name, path: from } of leftOut)
    warn(`left out: the model ${name} (${from}); --with-models takes it along`)
  print(dim('Keep the passphrase or key file elsewhere: without it nobody can open this. Who has both has the mesh.'))
}
