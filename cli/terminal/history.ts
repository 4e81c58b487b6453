import { readFileSync } from 'node:fs'
import { printable } from '../../lib/errors/index.js'
import { writeFileAtomic } from '../../lib/home/index.js'

const MAX_ENTRIES = 500
/** Of longer messages the history keeps nothing. */
const MAX_ENTRY_CHARS = 64 * 1024

/**
 * What was typed before, newest first, kept in a file with mode 0600: oldest first, an entry a line, and of an entry of
 * several lines each but the first behind a tab.
 */
export class History {
  readonly #file: string
  readonly #entries: string[]

  constructor(file: string) {
    this.#file = file
    this.#entries = entriesOf(file)
  }

  /** @param age 0 is the newest */
  at(age: number): string | undefined {
    return this.#entries[age]
  }

  /** Adds what was typed. The same again is kept once. */
  add(typed: string): void {
    const text = typed.trim()
    if (text === '' || text.length > MAX_ENTRY_CHARS) return
    const before = this.#entries.indexOf(text)
    if (before !== -1) this.#entries.splice(before, 1)
    this.#entries.unshift(text)
    this.#entries.length = Math.min(this.#entries.length, MAX_ENTRIES)
    this.#save()
  }

  #save(): void {
    const lines = [...this.#entries].reverse().map((entry) => `${entry.replaceAll('\n', '\n\t')}\n`)
    try {
      writeFileAtomic(this.#file, lines.join(''), { mode: 0o600, lasting: false })
    } catch {
      // A home that cannot be written to costs the history, not the conversation.
    }
  }
}

function entriesOf(file: string): string[] {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return []
  }
  return text
    .split(/\n(?!\t)/)
    .map((entry) => printable(entry.replaceAll('\n\t', '\n')))
    .filter((entry) => entry.trim() !== '')
    .reverse()
}
