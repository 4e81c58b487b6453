import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { MeshError } from '../../lib/protocol/index.js'
import { Interrupted } from './errors.js'

/** Asks for a password without showing it, twice; from a pipe, reads its first line. @throws MeshError BAD_REQUEST, Interrupted */
export async function readPassword(user: string | undefined): Promise<string> {
  if (process.stdin.isTTY !== true) {
    for await (const line of createInterface({ input: process.stdin })) return line
    throw MeshError.BAD_REQUEST('No password on standard input')
  }
  const first = await ask(`Password${user === undefined ? '' : ` for ${user}`}: `)
  if (first !== (await ask('The same again: '))) throw MeshError.BAD_REQUEST('The two passwords differ')
  return first
}

function ask(prompt: string): Promise<string> {
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
