import { createReadStream, existsSync, realpathSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { homePath } from '../../lib/home/index.js'
import { MeshError } from '../../lib/protocol/index.js'
import { mustNotRun } from '../backup/original.js'
import { mustBeEmpty, place, verify } from '../backup/place.js'
import { headBytes, kindOf, type Secret, unseal } from '../backup/seal.js'
import { readBackupSecret, type SecretOptions } from '../backup/secret.js'
import { fileFault } from '../shared/files.js'
import { command } from '../shared/hints.js'
import { optionsOf } from '../shared/mesh.js'
import { bytesText, counted, dim, print, printJson, timeText, warn, withSpinner } from '../shared/output.js'

interface RestoreOptions extends SecretOptions {
  force?: boolean
}

export function define(restore: Command): void {
  restore
    .argument('<file>', 'what `infermesh backup` wrote')
    .option('--passphrase-file <file>', 'read the passphrase from the first line of a file; - for standard input')
    .option('--key-file <file>', 'the file that it was encrypted with')
    .option('--force', 'do not look whether the original runs still; two that run lose what one of them writes')
    .addHelpText(
      'after',
      `
Makes a home from a backup, where there is none yet. The whole file is checked before anything is written. It is refused while
the workers that it is of answer: two with the same keys must not run. What was changed after the backup is lost.

Examples:
  infermesh restore infermesh-c5jctn8e-2026-01-31-150400.backup && infermesh up
  infermesh restore mesh.backup --home /var/lib/infermesh --key-file backup.key`,
    )
    .action(async (file: string, _options, self: Command) => {
      const options = optionsOf<RestoreOptions>(self)
      const home = behindLinks(resolve(homePath(options.home)))
      const quiet = options.json === true
      mustBeEmpty(home)
      const secret = await secretFor(file, options)
      const sealed = () => unseal(createReadStream(file), secret, file)
      const contents = await withSpinner('checking the backup', quiet, verify(sealed()))
      if (options.force !== true) {
        const original = {
          workers: contents.workers,
          profile: contents.profile,
          homes: [contents.home, home],
          anyway: 'restore with --force',
        }
        await withSpinner('looking for the original', quiet, mustNotRun(original))
      }
      const sum = await withSpinner('writing the home', quiet, place(home, sealed()))
      const { at, workers, models } = contents
      const lacking = models.filter((model) => model.file === undefined)
      if (quiet) {
        const modelsLeftOut = lacking.map(({ worker, name, path }) => ({ worker, name, path }))
        return printJson({
          home,
          at,
          mesh: contents.profile?.address,
          workers,
          files: sum.files,
          sizeBytes: sum.bytes,
          modelsLeftOut,
        })
      }
      print(`${home}  ${dim(`as of ${timeText(at)}: ${counted(workers.length, 'worker')}, ${bytesText(sum.bytes)}`)}`)
      for (const { name, path } of lacking)
        warn(`the model ${name} did not come along: put its file at ${path}, or add it anew`)
      if (workers.some(({ role }) => role === 'auth')) {
        warn(
          'Changes since then are lost: keys that were revoked work again, members that were removed are back. Look through both.',
        )
      }
      print(dim(`${command('up', home)} starts it. The original must never run again.`))
    })
}

/** Where a home is that a symbolic link names: what is restored takes the place of the folder, and the link stays. */
function behindLinks(path: string): string {
  return existsSync(path) ? realpathSync(path) : path
}

/** What the file says that it is opened with. @throws MeshError BAD_REQUEST, Interrupted */
async function secretFor(file: string, options: RestoreOptions): Promise<Secret> {
  const kind = kindOf(await beginning(file), file)
  if (kind === 'keyFile' && options.keyFile === undefined) {
    throw MeshError.BAD_REQUEST(`${file} was encrypted with a key file: name it with --key-file`)
  }
  if (kind === 'passphrase' && options.keyFile !== undefined) {
    throw MeshError.BAD_REQUEST(`${file} was encrypted with a passphrase, not with a key file`)
  }
  return readBackupSecret(options, 'open')
}

async function beginning(path: string): Promise<Buffer> {
  try {
    const file = await open(path, 'r')
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(headBytes), 0, headBytes, 0)
      return buffer.subarray(0, bytesRead)
    } finally {
      await file.close()
    }
  } catch (err) {
    throw MeshError.BAD_REQUEST(fileFault(path, err))
  }
}
