import { printable } from '../../lib/errors/index.js'
import { charactersOf, widthOf } from './width.js'

/** What a tab is drawn as. */
const TAB = '    '

interface Row {
  text: string
  cells: number
}

interface Drawn {
  rows: Row[]
  /** Where the cursor stands, in rows of `rows` and in cells. */
  row: number
  column: number
}

export interface ScreenOptions {
  output: NodeJS.WriteStream
  /** What stands before the first line and before the others, as wide as each other, and that width. */
  marks: { first: string; more: string; cells: number }
}

/** Draws what is being written, on as many rows as it takes, over what it drew before. */
export class Screen {
  readonly #options: ScreenOptions
  #drawn: Drawn | undefined
  #columns = 0

  constructor(options: ScreenOptions) {
    this.#options = options
  }

  /** A terminal that does not know its width says 0. */
  get #terminalColumns(): number {
    return this.#options.output.columns || 80
  }

  draw(text: string, cursor: number): void {
    const { output } = this.#options
    const columns = Math.max(this.#terminalColumns, this.#options.marks.cells + 2)
    const drawn = this.#window(this.#layOut(text, cursor, columns), (output.rows || 24) - 1)
    const typed = columns === this.#columns ? typedOn(this.#drawn, drawn) : undefined
    output.write(typed ?? this.#toTop() + whole(drawn))
    this.#drawn = drawn
    this.#columns = columns
  }

  /** Takes what is drawn away, and leaves the cursor where it began. */
  remove(): void {
    this.#options.output.write(this.#toTop())
    this.#drawn = undefined
  }

  /** Puts the cursor below what is drawn, which stays. */
  leave(): void {
    if (this.#drawn === undefined) return
    const { rows, row } = this.#drawn
    this.#options.output.write(`${down(rows.length - 1 - row)}\r\n`)
    this.#drawn = undefined
  }

  /** Clears the terminal; what is drawn next stands at its top. */
  clear(): void {
    this.#options.output.write('\x1b[H\x1b[2J')
    this.#drawn = undefined
  }

  /** Moves to where the drawing began and clears what is below. A terminal that became narrower has folded the rows. */
  #toTop(): string {
    if (this.#drawn === undefined) return ''
    const { rows, row, column } = this.#drawn
    const columns = this.#terminalColumns
    const folded = (cells: number) => Math.max(1, Math.ceil(cells / columns))
    let above = 0
    for (const { cells } of rows.slice(0, row)) above += folded(cells)
    above += Math.floor(column / columns)
    return `${up(above)}\r\x1b[J`
  }

  #layOut(text: string, cursor: number, columns: number): Drawn {
    const { first, more, cells: indent } = this.#options.marks
    const rows: Row[] = []
    let at = { row: 0, column: indent }
    let place = 0
    for (const line of text.split('\n')) {
      let row: Row = { text: rows.length === 0 ? first : more, cells: indent }
      const fold = () => {
        rows.push(row)
        row = { text: '', cells: 0 }
      }
      const note = (length: number) => {
        if (cursor >= place && cursor < place + length) at = { row: rows.length, column: row.cells }
        place += length
      }
      for (const character of charactersOf(line)) {
        const shown = character === '\t' ? TAB : printable(character)
        const cells = widthOf(shown)
        if (row.cells + cells > columns) fold()
        note(character.length)
        row.text += shown
        row.cells += cells
      }
      // The cursor never stands behind the last column.
      if (row.cells === columns) fold()
      note(1)
      rows.push(row)
    }
    return { rows, ...at }
  }

  /** As many rows around the cursor as the terminal has. */
  #window({ rows, row, column }: Drawn, most: number): Drawn {
    const height = Math.max(1, most)
    if (rows.length <= height) return { rows, row, column }
    const from = Math.min(Math.max(0, row - height + 1), rows.length - height)
    return { rows: rows.slice(from, from + height), row: row - from, column }
  }
}

/** Only what was added, where that is all that changed: a terminal then shows typing as it always does. */
function typedOn(before: Drawn | undefined, now: Drawn): string | undefined {
  const last = now.rows.length - 1
  const old = before?.rows[last]
  const row = now.rows[last]
  if (before === undefined || old === undefined || row === undefined) return undefined
  const atEnds =
    before.rows.length === now.rows.length &&
    before.row === last &&
    before.column === old.cells &&
    now.row === last &&
    now.column === row.cells
  if (!atEnds || !row.text.startsWith(old.text)) return undefined
  if (before.rows.some(({ text }, i) => i < last && text !== now.rows[i]?.text)) return undefined
  return row.text.slice(old.text.length)
}

function whole({ rows, row, column }: Drawn): string {
  const last = rows.length - 1
  const text = rows.map((one) => one.text).join('\r\n')
  if (row === last && column === rows[last]?.cells) return text
  return `${text}${up(last - row)}\r${column > 0 ? `\x1b[${column}C` : ''}`
}

function up(rows: number): string {
  return rows > 0 ? `\x1b[${rows}A` : ''
}

function down(rows: number): string {
  return rows > 0 ? `\x1b[${rows}B` : ''
}
