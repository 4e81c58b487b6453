import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { MeshError } from '../../lib/protocol/index.js'
import { Interrupted } from './errors.js'

/** Asks for a password without showing it, twice; from a pipe, reads its first line. @throws MeshError BAD_REQUEST, Interrupted */
export async function readPassword(user: string): Promise<string> {
  const [line] = await pipedLines(1)
  return line ?? askTwice(`Password for ${user}: `)
}

/** Asks once for a password that exists; from a pipe, reads its first line. @throws MeshError BAD_REQUEST, Interrupted */
export async function readKnownPassword(user: string): Promise<string> {
  const [line] = await pipedLines(1)
  return line ?? askSecret(`Password of ${user}: `)
}

/**
 * Asks for one's old password, and twice for a new one; from a pipe, reads the old one from the first line and the new one
 * from the second, or where there is only one line, the new one. No old one: there is none yet.
 * @throws MeshError BAD_REQUEST, Interrupted
 */
export async function readNewPassword(): Promise<{ password: string; oldPassword: string | undefined }> {
  const [first, second] = await pipedLines(2)
  if (first !== undefined)
    return second === undefined ? { password: first, oldPassword: undefined } : { password: second, oldPassword: first }
  const old = await askSecret('Your password now (empty where you have none): ')
  return { password: await askTwice('Your new password: '), oldPassword: old === '' ? undefined : old }
}

/** The first lines of a pipe; none where standard input is a terminal. @throws MeshError BAD_REQUEST where the pipe is empty */
async function pipedLines(count: number): Promise<string[]> {
  if (process.stdin.isTTY === true) return []
  const lines: string[] = []
  for await (const line of createInterface({ input: process.stdin })) {
    lines.push(line)
    if (lines.length === count) break
  }
  if (lines.length === 0) throw MeshError.BAD_REQUEST('No password on standard input')
  return lines
}

/** Asks on the terminal, without showing what is typed. @throws MeshError BAD_REQUEST where the two differ, Interrupted */
export async function askTwice(prompt: string, what = 'passwords'): Promise<string> {
  const first = await askSecret(prompt)
  if (first !== (await askSecret('The same again: '))) throw MeshError.BAD_REQUEST(`The two ${what} differ`)
  return first
}

/** Asks on the terminal, without showing what is typed. @throws Interrupted */
export function askSecret(prompt: string): Promise<string> {
  // readline echoes what is typed to its output: let it echo into nothing.
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const rl = createInterface({ input: process.stdin, output: silent, terminal: true })
  // Only now: until then the terminal itself would show what somebody quick types.
  process.stderr.write(prompt)
  return new Promise((resolve, reject) => {
    const end = () => {
      rl.close()
      process.stderr.write('\n')
    }
    rl.once('SIGINT', () => {
      end()
      reject(new Interrupted())
    })
    rl.question('', (answer) => {
      end()
      resolve(answer)
    })
  })
}
