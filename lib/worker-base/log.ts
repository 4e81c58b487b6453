import { renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { destination, type Logger, multistream, pino, type StreamEntry } from 'pino'
import { z } from 'zod'
import { makePrivateDir } from '../home/index.js'

export type { Logger } from 'pino'

export const logConfigSchema = z.strictObject({
  level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
})

/** A log that has grown past this is put aside as `.1` at the next start. */
const ROTATE_BYTES = 32 * 1024 * 1024

/** What must never be printed, wherever it turns up in a logged object. */
const REDACTED = ['key', 'password', 'secret', '*.key', '*.password', '*.secret', 'invite', '*.invite']

/**
 * JSON lines to the worker's file in the home; on a terminal also people's form.
 * @param file absent: nothing is written to disk
 */
export async function openLog(options: {
  level: z.output<typeof logConfigSchema>['level']
  role: string
  name: string
  file?: string
  terminal: boolean
}): Promise<Logger> {
  const streams: StreamEntry[] = []
  const { level } = options
  // Of a log that is silent no stream gets anything.
  const streamLevel = level === 'silent' ? 'fatal' : level
  if (options.file !== undefined) {
    makePrivateDir(dirname(options.file))
    rotate(options.file)
    streams.push({
      level: streamLevel,
      stream: whereThereIsRoom(destination({ dest: options.file, sync: true, append: true, mode: 0o600 })),
    })
  }
  if (options.terminal) {
    const { default: pretty } = await import('pino-pretty')
    streams.push({
      level: streamLevel,
      stream: pretty({
        sync: true,
        translateTime: 'SYS:HH:MM:ss.l',
        ignore: 'pid,hostname,role,worker',
        destination: 2,
      }),
    })
  }
  return pino(
    {
      level,
      base: { role: options.role, worker: options.name },
      redact: { paths: REDACTED, censor: '[redacted]' },
    },
    multistream(streams),
  )
}

/** A line that cannot be written, for want of room, say, is lost: it ends nothing of what it tells about. */
function whereThereIsRoom(file: { write(line: string): unknown }): { write(line: string): void } {
  return {
    write(line) {
      try {
        file.write(line)
      } catch {
        // Whoever looks at the disk tells that it is full.
      }
    },
  }
}

function rotate(file: string): void {
  try {
    if (statSync(file).size > ROTATE_BYTES) renameSync(file, `${file}.1`)
  } catch {
    // No log yet.
  }
}
