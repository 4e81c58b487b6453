import { printable } from '../../lib/errors/index.js'
import { bold, cyan, dim, italic, onTerminal, writeAnswer, writeDrawn } from '../shared/output.js'
import { Markdown, type Piece, type Style } from './markdown.js'
import { Wrap } from './wrap.js'

const PAINTS: Record<Style, (text: string) => string> = { heading: bold, bold, italic, code: cyan, mark: dim }

/** What an answer is written with, piece by piece. */
export interface AnswerWriter {
  write(text: string): void
  /** Writes what was held back. */
  end(): void
}

/**
 * Shows an answer: on a terminal with its Markdown styled and broken at words, elsewhere as it is.
 * @param isPlain as it is on a terminal, too, but for control characters
 */
export function answerWriter(isPlain: boolean): AnswerWriter {
  if (isPlain || !onTerminal() || process.env.TERM === 'dumb') return { write: writeAnswer, end: () => {} }
  const markdown = new Markdown()
  const wrap = new Wrap(() => Math.max(process.stdout.columns || 80, 2))
  const show = (pieces: Piece[]) => {
    const shown = pieces.map(({ text, styles, isCode }) =>
      wrap.write(text, (part) => styles.reduce((painted, style) => PAINTS[style](painted), part), isCode),
    )
    if (shown.length > 0) writeDrawn(shown.join(''))
  }
  return {
    write: (text) => show(markdown.write(printable(text))),
    end: () => show(markdown.end()),
  }
}
