import { existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { writeFileAtomic } from '../../lib/home/index.js'
import { dim, shown } from './output.js'

const HISTORY_LINES = 500
/** A second Ctrl-C at an empty prompt within this time ends the program. */
const TWICE_MS = 2000

/**
 * What a person types, line by line, with history and Ctrl-C as in a shell; or the lines of a pipe. The terminal is
 * left alone between two lines, so that Ctrl-C reaches the program while it works.
 */
export class Lines {
  readonly #prompt: string
  readonly #historyFile: string
  #history: string[]

  /** @param historyFile kept with mode 0600 */
  constructor(prompt: string, historyFile: string) {
    this.#prompt = prompt
    this.#historyFile = historyFile
    this.#history = existsSync(historyFile)
      ? readFileSync(historyFile, 'utf8').split('\n').filter(Boolean).reverse()
      : []
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    if (process.stdin.isTTY !== true) {
      yield* createInterface({ input: process.stdin })
      return
    }
    while (true) {
      let text = await this.#ask(this.#prompt)
      while (text?.endsWith('\\')) {
        const more = await this.#ask(dim('… '))
        text = more === undefined ? text.slice(0, -1) : `${text.slice(0, -1)}\n${more}`
      }
      if (text === undefined) return
      yield text
    }
  }

  /** @returns undefined at the end of input, or at Ctrl-C twice */
  #ask(prompt: string): Promise<string | undefined> {
    const rl = createInterface({
      input: process.stdin,
      output: process.stdout,
      prompt: shown(prompt),
      history: [...this.#history],
      historySize: HISTORY_LINES,
      removeHistoryDuplicates: true,
    })
    return new Promise((resolve) => {
      let line: string | undefined
      let interruptedAt = Number.NEGATIVE_INFINITY
      rl.on('history', (history) => {
        this.#history = history
      })
      rl.on('SIGINT', () => {
        if (rl.line !== '') {
          // As in a shell: what was typed is dropped.
          process.stdout.write('^C\n')
          rl.write(null, { ctrl: true, name: 'u' })
          rl.prompt()
        } else if (performance.now() - interruptedAt < TWICE_MS) {
          process.stdout.write('\n')
          rl.close()
        } else {
          interruptedAt = performance.now()
          process.stdout.write(`\n${shown(dim('Ctrl-C again, or /exit, to leave'))}\n`)
          rl.prompt()
        }
      })
      rl.once('line', (text) => {
        line = text
        rl.close()
      })
      rl.once('close', () => {
        this.#save()
        resolve(line)
      })
      rl.prompt()
    })
  }

  #save(): void {
    try {
      const text = `${[...this.#history].reverse().join('\n')}\n`
      writeFileAtomic(this.#historyFile, text, { mode: 0o600, lasting: false })
    } catch {
      // A home that cannot be written to costs the history, not the conversation.
    }
  }
}
