import { CommanderError } from 'commander'
import { againIn, escapedJson, oneLine, printable } from '../../lib/errors/index.js'

/** EX_USAGE of sysexits(3). */
const USAGE = 64
const UNAVAILABLE = 69
const SOFTWARE = 70
/** What a shell says of a process that Ctrl-C ended. */
const INTERRUPTED = 130

interface Shown {
  code: string
  message: string
  details?: Record<string, unknown>
  exitCode: number
}

/** The message, with when to try again where a limit or a queue says so and the message does not. */
export function againText({ code, message, details }: Pick<Shown, 'code' | 'message' | 'details'>): string {
  const waitMs = details?.retryAfterMs
  const isLater = code === 'RATE_LIMITED' || code === 'QUEUE_FULL'
  if (!isLater || typeof waitMs !== 'number' || /try again/i.test(message)) return message
  return `${message}. ${againIn(waitMs)}`
}

/** Ends a command that Ctrl-C or SIGTERM stopped: nothing is left to say. */
export class Interrupted extends Error {}

/** Prints an error as one line, or as JSON, on standard error. @returns the exit code for it */
export function printError(err: unknown, json: boolean): number {
  if (err instanceof Interrupted) return INTERRUPTED
  const { exitCode, ...error } = shownOf(err)
  const line = json ? escapedJson(JSON.stringify({ error })) : `infermesh: ${oneLine(againText(error))}`
  try {
    process.stderr.write(`${line}\n`)
  } catch {
    // A file on a full disk. The exit code says it still.
  }
  return exitCode
}

/** MeshErrors are told by their shape: importing their class would load the protocol even to say that an option is wrong. */
function shownOf(err: unknown): Shown {
  if (err instanceof CommanderError) {
    // A command that wants a subcommand has shown its help instead.
    const message = err.code === 'commander.help' ? 'a subcommand is missing' : oneLine(err.message)
    return {
      code: 'BAD_REQUEST',
      message: `${message.replace(/^error: /, '').replace(/\.$/, '')}. See --help`,
      exitCode: USAGE,
    }
  }
  const { name, code, message, details, exitCode } = err as Partial<Shown & Error>
  if (name === 'MeshError' && typeof code === 'string' && typeof message === 'string') {
    const hasDetails = details !== undefined && Object.keys(details).length > 0
    return { code, message: oneLine(message), ...(hasDetails ? { details } : {}), exitCode: exitCode ?? SOFTWARE }
  }
  const text = err instanceof Error ? err.message : String(err)
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return {
      code: 'DISK_FULL',
      message: `The disk is full (${oneLine(text)}): make room and try again`,
      exitCode: UNAVAILABLE,
    }
  }
  if (process.env.INFERMESH_DEBUG !== undefined && err instanceof Error)
    process.stderr.write(`${printable(err.stack ?? '')}\n`)
  return { code: 'INTERNAL', message: oneLine(text), exitCode: SOFTWARE }
}
