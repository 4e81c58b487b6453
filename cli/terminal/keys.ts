import { StringDecoder } from 'node:string_decoder'
import { printable } from '../../lib/errors/index.js'

export type KeyName =
  | 'text'
  | 'paste'
  | 'enter'
  | 'newline'
  | 'tab'
  | 'interrupt'
  | 'eof'
  | 'suspend'
  | 'clear'
  | 'up'
  | 'down'
  | 'left'
  | 'right'
  | 'home'
  | 'end'
  | 'word-left'
  | 'word-right'
  | 'erase'
  | 'delete'
  | 'erase-word'
  | 'delete-word'
  | 'kill-left'
  | 'kill-right'
  | 'yank'
  | 'undo'

/** One key that was pressed; `text` is what was typed or pasted. */
export interface Key {
  name: KeyName
  text: string
}

/** Switches on and off that a terminal marks what is pasted. */
export const PASTE_ON = '\x1b[?2004h'
export const PASTE_OFF = '\x1b[?2004l'
const PASTE_BEGIN = '\x1b[200~'
const PASTE_END = '\x1b[201~'

/** A key that begins like the Escape key follows within this time; later the person has pressed Escape. */
const ESCAPE_MS = 100
/** The longest sequence of one key. */
const MAX_SEQUENCE = 32

const CONTROLS: Partial<Record<string, KeyName>> = {
  '\x01': 'home',
  '\x02': 'left',
  '\x03': 'interrupt',
  '\x04': 'eof',
  '\x05': 'end',
  '\x06': 'right',
  '\x08': 'erase',
  '\t': 'tab',
  '\n': 'enter',
  '\x0b': 'kill-right',
  '\x0c': 'clear',
  '\r': 'enter',
  '\x0e': 'down',
  '\x10': 'up',
  '\x15': 'kill-left',
  '\x17': 'erase-word',
  '\x19': 'yank',
  '\x1a': 'suspend',
  '\x1f': 'undo',
  '\x7f': 'erase',
}

const SEQUENCES: Partial<Record<string, KeyName>> = {
  '[A': 'up',
  '[B': 'down',
  '[C': 'right',
  '[D': 'left',
  '[H': 'home',
  '[F': 'end',
  OA: 'up',
  OB: 'down',
  OC: 'right',
  OD: 'left',
  OH: 'home',
  OF: 'end',
  '[1~': 'home',
  '[7~': 'home',
  '[4~': 'end',
  '[8~': 'end',
  '[3~': 'delete',
  '[1;5C': 'word-right',
  '[1;3C': 'word-right',
  '[1;5D': 'word-left',
  '[1;3D': 'word-left',
  '[3;5~': 'delete-word',
  // Alt with a key.
  b: 'word-left',
  f: 'word-right',
  d: 'delete-word',
  '\x7f': 'erase-word',
  '\x08': 'erase-word',
  '\r': 'newline',
  '\n': 'newline',
}
/** Enter with Shift, Alt or Ctrl, as terminals tell it that tell it at all. */
const MODIFIED_ENTER = /^\[(?:13;\d+u|27;\d+;13~)$/

/** A sequence behind Escape: what a key sends, or Alt and a character. Keys such as Ctrl-C count behind Escape, too. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const SEQUENCE = /(?:\[[0-9;?<=>]*[ -/]*[@-~]|O[ -~]|[^[O\u0000-\u001f]|[\b\r\n])/uy
/** The beginning of one, with its Escape. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const BEGUN = /^\x1b(?:\[[0-9;?<=>]*[ -/]*|O)?/
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const TEXT = /[^\u0000-\u001f\u007f]+/y

/** Makes keys of the bytes that a terminal in raw mode gives. */
export class KeyReader {
  readonly #decoder = new StringDecoder('utf8')
  #rest = ''
  #restAt = 0
  #pasted: string[] | undefined

  /** @param now milliseconds, to tell the Escape key from what begins like it */
  read(bytes: Buffer, now: number): Key[] {
    const input = this.#decoder.write(bytes)
    const text = (this.#rest === '\x1b' && now - this.#restAt > ESCAPE_MS ? '' : this.#rest) + input
    this.#rest = ''
    this.#restAt = now
    const keys: Key[] = []
    let at = 0
    while (at < text.length) {
      if (this.#pasted !== undefined) at = this.#readPaste(this.#pasted, text, at, keys)
      else if (text[at] === '\x1b') at = this.#readSequence(text, at, keys)
      else at = readPlain(text, at, keys)
    }
    return keys
  }

  #readPaste(pasted: string[], text: string, at: number, keys: Key[]): number {
    const end = text.indexOf(PASTE_END, at)
    if (end === -1) {
      // The mark may be cut in two.
      const keep = Math.max(at, text.length - (PASTE_END.length - 1))
      const cut = text.indexOf('\x1b', keep)
      const upTo = cut === -1 ? text.length : cut
      pasted.push(text.slice(at, upTo))
      this.#rest = text.slice(upTo)
      return text.length
    }
    pasted.push(text.slice(at, end))
    this.#pasted = undefined
    keys.push({ name: 'paste', text: cleanPaste(pasted.join('')) })
    return end + PASTE_END.length
  }

  #readSequence(text: string, at: number, keys: Key[]): number {
    if (text.startsWith(PASTE_BEGIN, at)) {
      this.#pasted = []
      return at + PASTE_BEGIN.length
    }
    SEQUENCE.lastIndex = at + 1
    const sequence = SEQUENCE.exec(text)?.[0]
    if (sequence === undefined) {
      const begun = BEGUN.exec(text.slice(at, at + MAX_SEQUENCE))?.[0] ?? ''
      // What cannot become a sequence any more takes no key behind it along.
      if (at + begun.length < text.length) return at + begun.length
      this.#rest = begun
      return text.length
    }
    const name = MODIFIED_ENTER.test(sequence) ? 'newline' : SEQUENCES[sequence]
    if (name !== undefined) keys.push({ name, text: '' })
    return at + 1 + sequence.length
  }
}

function readPlain(text: string, at: number, keys: Key[]): number {
  TEXT.lastIndex = at
  const run = TEXT.exec(text)?.[0]
  if (run !== undefined) {
    const shown = printable(run)
    if (shown !== '') keys.push({ name: 'text', text: shown })
    return at + run.length
  }
  const name = CONTROLS[text[at] ?? '']
  if (name !== undefined) keys.push({ name, text: '' })
  return at + 1
}

/** Terminals give line breaks of what is pasted as Enter. */
function cleanPaste(text: string): string {
  return printable(text.replace(/\r\n?/g, '\n'))
}
