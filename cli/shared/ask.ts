import { createInterface } from 'node:readline'
import { Interrupted } from './errors.js'
import { onTerminal, shown } from './output.js'

/** True where a person can be asked. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && onTerminal()
}

/** Asks a person for a line. @throws Interrupted at Ctrl-C, and at the end of input */
export function ask(question: string): Promise<string> {
  const rl = createInterface({ input: process.stdin, output: process.stdout })
  return new Promise((resolve, reject) => {
    rl.once('SIGINT', () => rl.close())
    rl.once('close', () => reject(new Interrupted()))
    rl.question(shown(question), (answer) => {
      resolve(answer.trim())
      rl.close()
    })
  })
}

/** Asks for a yes; anything else is a no. @throws Interrupted */
export async function confirm(question: string): Promise<boolean> {
  return /^y(es)?$/i.test(await ask(`${question} [y/N] `))
}
