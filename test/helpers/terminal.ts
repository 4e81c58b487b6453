import type { Test } from 'brittle'
import { type Child, CLI, cliEnv, type Exit, spawnProgram } from './process.js'
import { until } from './wait.js'

/** What a terminal does that a pipe does not: `script` gives the command one. */
export const NEEDS = 'script --version'

/** Control sequences: colours, and what moves the cursor or clears a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const CONTROL = /\x1b\[[0-9;?]*[A-Za-z]/g

export interface TerminalOptions {
  /** What runs in it; absent: infermesh. */
  program?: string[]
  columns?: number
  rows?: number
  env?: NodeJS.ProcessEnv
}

/** `infermesh <args>`, or another program, in a terminal, as a person sees it and types into it. */
export class Terminal {
  readonly #child: Child
  #seen = 0

  constructor(t: Test, home: string, args: string[], options: TerminalOptions = {}) {
    const { program = [process.execPath, CLI], columns = 120, rows = 40, env = {} } = options
    // Without exec Ctrl-C would end the shell as well, and its exit code would hide the command's.
    const words = [...program, ...args].map((word) => `'${word}'`)
    this.#child = spawnProgram(
      t,
      ['script', '-qefc', `stty cols ${columns} rows ${rows}; exec ${words.join(' ')}`, '/dev/null'],
      {
        env: { ...cliEnv(home), NO_COLOR: '', TERM: 'xterm', SHELL: '/bin/sh', ...env },
        input: 'typed',
      },
    )
  }

  /** All that was shown so far, with its control sequences. */
  get raw(): string {
    return this.#child.stdout
  }

  /** Waits until what was shown since the last call has something, and gives that. */
  async sees(pattern: RegExp, withinMs = 30_000): Promise<string> {
    const shown = () => this.raw.slice(this.#seen).replace(CONTROL, '').replaceAll('\r', '')
    try {
      const text = await until(() => (pattern.test(shown()) ? shown() : undefined), String(pattern), withinMs)
      this.#seen = this.raw.length
      return text
    } catch (err) {
      throw new Error(`${(err as Error).message}; shown: ${shown()}`)
    }
  }

  /** Types as a person does: Enter is `\r`, Ctrl-C `\x03`, Ctrl-D `\x04`. */
  type(text: string): void {
    this.#child.process.stdin?.write(text)
  }

  get exited(): Promise<Exit> {
    return this.#child.exited
  }
}
