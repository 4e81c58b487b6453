import { type Logger, multistream, pino, type StreamEntry } from 'pino'
import { z } from 'zod'
import { LogFile } from '../home/index.js'
import { KEY_HEADERS, printable } from '../protocol/index.js'

export type { Logger } from 'pino'

export const logConfigSchema = z.strictObject({
  level: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
})

/** What must never be printed, wherever it turns up in a logged object. */
const REDACTED = ['key', 'password', 'secret', 'invite', 'connect', 'authorization', ...KEY_HEADERS].flatMap((name) => {
  const path = `["${name}"]`
  return [path, `*${path}`]
})

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
  const tellLost = (lines: number) => log.warn({ lines }, 'lines were lost here, for the disk was full')
  if (options.file !== undefined) {
    streams.push({ level: streamLevel, stream: whereThereIsRoom(new LogFile(options.file), tellLost) })
  }
  if (options.terminal) {
    const { default: pretty } = await import('pino-pretty')
    const terminal = pretty({
      sync: true,
      translateTime: 'SYS:HH:MM:ss.l',
      ignore: 'pid,hostname,role,worker',
      destination: 2,
    })
    streams.push({ level: streamLevel, stream: { write: (line) => terminal.write(printableLine(line)) } })
  }
  const log = pino(
    {
      level,
      base: { role: options.role, worker: options.name },
      redact: { paths: REDACTED, censor: '[redacted]' },
    },
    multistream(streams),
  )
  return log
}

/** A line of the log as a terminal may show it: as JSON the characters are hidden that it writes by their number. */
function printableLine(line: string): string {
  const entry: unknown = JSON.parse(line, (_key, value: unknown) =>
    typeof value === 'string' ? printable(value) : value,
  )
  return `${JSON.stringify(entry)}\n`
}

/** A line that cannot be written is lost, and ends nothing of what it tells about. The next that can be tells how many were. */
function whereThereIsRoom(
  file: { write(line: string): boolean },
  tellLost: (lines: number) => void,
): { write(line: string): void } {
  let lost = 0
  return {
    write(line) {
      if (!file.write(line)) {
        lost++
        return
      }
      if (lost === 0) return
      const lines = lost
      lost = 0
      tellLost(lines)
    },
  }
}
