import { createInterface } from 'node:readline'
import { bold, dim, print, shown } from '../shared/output.js'
import { Editor } from './editor.js'
import { History } from './history.js'
import { type Key, KeyReader, PASTE_OFF, PASTE_ON } from './keys.js'
import { messagesOf, messageText } from './messages.js'
import { Screen } from './screen.js'

/** A second Ctrl-C at an empty prompt within this time leaves. */
const TWICE_MS = 2000
/** What Ctrl-Z stops stands still before this. */
const NOT_STOPPED_MS = 100
/** Keys that are kept while the program works. */
const MAX_AHEAD = 10_000
/** Choices that one Tab shows. */
const MAX_CHOICES = 100

/** What may stand at a place: behind `from` comes one of these. */
export interface Completion {
  from: number
  choices: string[]
}

export interface TypingOptions {
  /** Kept with mode 0600. */
  historyFile: string
  /** What may come at the end of a text. */
  complete: (text: string) => Promise<Completion>
  /** Ctrl-C while the program works. */
  onInterrupt: () => void
}

/** Whether a person types and sees it drawn; elsewhere messages are lines of a pipe or file. */
export function isInteractive(): boolean {
  return process.stdin.isTTY === true && process.stdout.isTTY === true && process.env.TERM !== 'dumb'
}

/** Whoever has the terminal now. */
let current: Typing | undefined

/** Says a line while a person may be typing: above what is typed, which stays as it is. */
export function notice(line: string): void {
  if (current === undefined) print(line)
  else current.notice(line)
}

/** What a person types or pipes in, message by message. */
export async function* typedMessages(options: TypingOptions): AsyncGenerator<string> {
  if (!isInteractive()) {
    yield* messagesOf(createInterface({ input: process.stdin }))
    return
  }
  const typing = new Typing(options)
  typing.begin()
  try {
    while (true) {
      const text = await typing.ask()
      if (text === undefined) return
      yield messageText(text)
    }
  } finally {
    typing.end()
  }
}

/**
 * A terminal in raw mode, from the first message to the last: also while the program works no key is shown by the terminal
 * itself. What is typed ahead counts for the next message.
 */
class Typing {
  readonly #options: TypingOptions
  readonly #history: History
  readonly #editor: Editor
  readonly #keys = new KeyReader()
  readonly #screen = new Screen({
    output: process.stdout,
    marks: { first: shown(bold('> ')), more: shown(dim('… ')), cells: 2 },
  })
  #ahead: Key[] = []
  #resolve: ((text: string | undefined) => void) | undefined
  #isReading = false
  #hasEnded = false
  #interruptedAt = Number.NEGATIVE_INFINITY

  constructor(options: TypingOptions) {
    this.#options = options
    this.#history = new History(options.historyFile)
    this.#editor = new Editor(this.#history)
  }

  /** Takes the terminal. */
  begin(): void {
    const { stdin, stdout } = process
    current = this
    stdin.setRawMode(true)
    stdin.on('data', this.#onData).on('end', this.#onEnd).resume()
    stdout.write(PASTE_ON)
    stdout.on('resize', this.#onResize)
    process.on('exit', this.end)
    process.on('SIGTERM', this.#onEndSignal)
    process.on('SIGHUP', this.#onEndSignal)
  }

  /** Gives the terminal back as it was. */
  readonly end = (): void => {
    const { stdin, stdout } = process
    if (current === this) current = undefined
    process.off('exit', this.end)
    process.off('SIGTERM', this.#onEndSignal)
    process.off('SIGHUP', this.#onEndSignal)
    stdout.off('resize', this.#onResize)
    stdout.write(PASTE_OFF)
    stdin.off('data', this.#onData).off('end', this.#onEnd)
    if (stdin.destroyed) return
    stdin.setRawMode(false)
    stdin.pause()
  }

  /** @returns undefined where the person leaves: at Ctrl-D, at Ctrl-C twice, or with the terminal */
  ask(): Promise<string | undefined> {
    return new Promise((resolve) => {
      this.#resolve = resolve
      if (this.#hasEnded) return this.#answer(undefined)
      this.#draw()
      void this.#work()
    })
  }

  notice(line: string): void {
    const isAsking = this.#resolve !== undefined
    if (isAsking) this.#screen.remove()
    print(line)
    if (isAsking) this.#draw()
  }

  readonly #onData = (bytes: Buffer): void => {
    const keys = this.#keys.read(bytes, performance.now())
    for (const key of keys) {
      if (this.#resolve === undefined && key.name === 'interrupt') {
        this.#ahead = []
        this.#options.onInterrupt()
      } else if (this.#resolve === undefined && key.name === 'suspend') this.#suspend()
      else if (this.#ahead.length < MAX_AHEAD) this.#ahead.push(key)
    }
    void this.#work()
  }

  readonly #onEnd = (): void => {
    this.#hasEnded = true
    this.#answer(undefined)
  }

  readonly #onResize = (): void => {
    if (this.#resolve !== undefined) this.#draw()
  }

  /** A signal that would end the program at once does so, with the terminal given back. */
  readonly #onEndSignal = (signal: NodeJS.Signals): void => {
    this.end()
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
  }

  /** Goes through the keys in their order, one after the other, also where one takes time. */
  async #work(): Promise<void> {
    if (this.#isReading) return
    this.#isReading = true
    let isDrawn = true
    while (this.#resolve !== undefined) {
      const key = this.#ahead.shift()
      if (key === undefined) break
      if (key.name === 'tab') {
        await this.#complete()
        isDrawn = false
      } else isDrawn = this.#press(key)
    }
    if (!isDrawn && this.#resolve !== undefined) this.#draw()
    this.#isReading = false
  }

  /** @returns whether what is shown is up to date */
  #press(key: Key): boolean {
    switch (key.name) {
      case 'interrupt':
        this.#interrupt()
        return true
      case 'suspend':
        this.#suspend()
        return true
      case 'clear':
        this.#screen.clear()
        return false
      case 'eof':
        if (this.#editor.text === '') {
          this.#answer(undefined)
          return true
        }
        this.#editor.press({ name: 'delete', text: '' })
        return false
    }
    if (!this.#editor.press(key)) return false
    const { text } = this.#editor
    this.#editor.cursor = text.length
    this.#draw()
    this.#history.add(messageText(text))
    this.#answer(this.#editor.take())
    return true
  }

  #answer(text: string | undefined): void {
    const resolve = this.#resolve
    if (resolve === undefined) return
    this.#resolve = undefined
    this.#screen.leave()
    resolve(text)
  }

  /** As in a shell: what was written is dropped. Where nothing was, it says how to leave, and twice leaves. */
  #interrupt(): void {
    const now = performance.now()
    // Also what came with the key itself is seen before it is dropped.
    this.#draw()
    const hadText = this.#editor.take() !== ''
    if (!hadText && now - this.#interruptedAt < TWICE_MS) {
      this.#answer(undefined)
      return
    }
    this.#screen.leave()
    if (!hadText) {
      this.#interruptedAt = now
      process.stdout.write(`${shown(dim('Ctrl-C again, Ctrl-D or /exit leaves'))}\n`)
    }
    this.#draw()
  }

  /** Ctrl-Z, which the terminal in raw mode leaves to us. */
  #suspend(): void {
    if (this.#resolve !== undefined) this.#screen.leave()
    this.end()
    const goOn = (): void => {
      process.off('SIGCONT', goOn)
      clearTimeout(timer)
      this.begin()
      if (this.#resolve !== undefined) this.#draw()
    }
    process.on('SIGCONT', goOn)
    process.kill(process.pid, 'SIGTSTP')
    // The first program of a terminal or a container has nobody to continue it, and is not stopped.
    const timer = setTimeout(goOn, NOT_STOPPED_MS)
  }

  async #complete(): Promise<void> {
    const { text, cursor } = this.#editor
    this.#draw()
    const { from, choices } = await this.#options.complete(text.slice(0, cursor))
    if (this.#resolve === undefined || choices.length === 0) return
    const common = commonStart(choices)
    if (common.length > cursor - from) this.#editor.replace(from, cursor, common)
    else if (choices.length > 1) {
      this.#screen.leave()
      const more = choices.length > MAX_CHOICES ? `  and ${choices.length - MAX_CHOICES} more` : ''
      process.stdout.write(`${shown(dim(choices.slice(0, MAX_CHOICES).join('  ') + more))}\n`)
    }
  }

  #draw(): void {
    this.#screen.draw(this.#editor.text, this.#editor.cursor)
  }
}

/** What all of these begin with. */
function commonStart(choices: string[]): string {
  let common = choices[0] ?? ''
  for (const choice of choices) while (!choice.startsWith(common)) common = common.slice(0, -1)
  return common
}
