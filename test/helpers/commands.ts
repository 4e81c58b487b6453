import type { Test } from 'brittle'
import { type Exit, infermesh } from './process.js'

/** Commands as people type them, and whether they go well. */

/** What of a command stands in a message. */
const SHOWN = 60

/** Checks that a command succeeds, and gives what it printed. */
export async function good(
  t: Test,
  home: string,
  args: string[],
  more: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<string> {
  const { code, stdout, stderr } = await infermesh(args, { home, ...more })
  t.is(code, 0, `${args.join(' ').slice(0, SHOWN)} ${stderr}`)
  return stdout
}

/** Checks that a command ends with a code, and says what it should on standard error. */
export async function bad(
  t: Test,
  home: string,
  args: string[],
  code: number,
  message: RegExp,
  input?: string,
): Promise<Exit> {
  const result = await infermesh(args, { home, input })
  t.is(result.code, code, args.join(' ').slice(0, SHOWN))
  t.ok(message.test(result.stderr), result.stderr.trim())
  return result
}
