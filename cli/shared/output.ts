import { randomBytes } from 'node:crypto'
import { escapedJson, oneLine, printable } from '../../lib/errors/index.js'
import { charactersOf, characterWidth, widthOf } from '../terminal/width.js'
import { Interrupted } from './errors.js'

type Paint = (text: string) => string

function allowsColour(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && (process.env.NO_COLOR ?? '') === '' && process.env.TERM !== 'dumb'
}

/** What stands for the beginning of a colour until it is shown. Nobody else's text can know it. */
const MARK = `\u{f0000}${randomBytes(8).toString('hex')}`
const MARKED = new RegExp(`${MARK}(\\d*[mDK]);`, 'gu')
const ONE_MARK = new RegExp(`(${MARK}\\d*[mDK];)`, 'u')

function paint(open: number, close: number): Paint {
  return (text) => (allowsColour(process.stdout) ? `${MARK}${open}m;${text}${MARK}${close}m;` : text)
}

/** Takes back so many cells at the end of what is shown. */
export function takeBack(cells: number): string {
  return cells > 0 ? `${MARK}${cells}D;${MARK}K;` : ''
}

export const bold = paint(1, 22)
export const dim = paint(2, 22)
export const italic = paint(3, 23)
export const red = paint(31, 39)
export const green = paint(32, 39)
export const yellow = paint(33, 39)
export const cyan = paint(36, 39)

/** True where a person sees what is printed. */
export function onTerminal(): boolean {
  return process.stdout.isTTY === true
}

/** Our own colours in, and nothing else that a terminal would do more with than show it. */
function coloured(text: string): string {
  return printable(text).replace(MARKED, '\x1b[$1')
}

/** A line as `print` shows it, for what draws by itself. */
export function shown(line: string): string {
  return coloured(oneLine(line))
}

/** Prints one line: what others wrote in it stays within it. */
export function print(line = ''): void {
  process.stdout.write(`${shown(line)}\n`)
}

/** Prints lines as they are. */
export function printLines(text: string): void {
  process.stdout.write(`${coloured(text)}\n`)
}

/** Says one line on standard error. */
export function warn(line: string): void {
  process.stderr.write(`${shown(yellow(line))}\n`)
}

export function printJson(value: unknown): void {
  printJsonLine(JSON.stringify(value, null, 2))
}

/** Prints JSON that is written already. */
export function printJsonLine(json: string): void {
  process.stdout.write(`${json.split('\n').map(escapedJson).join('\n')}\n`)
}

/** Waits until all that was printed has left this process: a pipe may take less than it is given. */
export function flushed(): Promise<void> {
  return new Promise((resolve) => process.stdout.write('', () => resolve()))
}

/** Writes a piece of an answer: as it is into a pipe or file, without control characters on a terminal. */
export function writeAnswer(text: string): void {
  process.stdout.write(onTerminal() ? printable(text) : text)
}

/** Writes text with what `bold` and its like, and `takeBack`, put into it. */
export function writeDrawn(text: string): void {
  process.stdout.write(coloured(text))
}

function width(text: string): number {
  return widthOf(text.replace(MARKED, ''))
}

/** A number, perhaps with a unit, or none. */
const NUMBER = /^(-?|\d[\d.,]*( ?[A-Za-z%]{1,3})?)$/

/** The widest cell: every row of a table is padded to it. */
const MAX_CELL = 200

function short(cell: string): string {
  return cell.length > MAX_CELL ? cutTo(cell, MAX_CELL) : cell
}

/** Lines of an aligned table. Columns of numbers are set to the right. */
export function table(head: string[], rows: string[][]): string[] {
  const cells = rows.map((row) => row.map((cell) => short(oneLine(cell))))
  const widths = head.map((title, i) => Math.max(width(title), ...cells.map((row) => width(row[i] ?? ''))))
  const toRight = head.map((_, i) => cells.length > 0 && cells.every((row) => NUMBER.test(row[i] ?? '')))
  const line = (row: string[], style: Paint = (text) => text) =>
    row
      .map((cell, i) => {
        const space = ' '.repeat((widths[i] ?? 0) - width(cell))
        return toRight[i] ? space + style(cell) : style(cell) + space
      })
      .join('  ')
      .trimEnd()
  return [line(head, dim), ...cells.map((row) => line(row))]
}

/** Prints a table, on a terminal no wider than that, or what to say where there are no rows. */
export function printTable(head: string[], rows: string[][], empty: string): void {
  if (rows.length === 0) print(dim(empty))
  else for (const line of table(head, rows)) print(onTerminal() ? cutTo(line, process.stdout.columns ?? 80) : line)
}

/** Prints what is said of one thing, a line for each fact; those without a value are left out. */
export function printFacts(facts: readonly (readonly [name: string, value: string | undefined])[]): void {
  const told = facts.filter(([, value]) => value !== undefined)
  const widest = Math.max(...told.map(([name]) => name.length))
  for (const [name, value] of told) print(`${dim(name.padEnd(widest))}  ${value}`)
}

/** A line of at most so many cells; colours take no room, and are ended where the line is cut. */
export function cutTo(line: string, columns: number): string {
  if (columns < 1 || width(line) <= columns) return line
  let room = columns - 1
  const kept = line.split(ONE_MARK).map((part, i) => {
    if (i % 2 === 1) return part
    let kept = ''
    for (const character of charactersOf(part)) {
      room -= characterWidth(character)
      if (room < 0) break
      kept += character
    }
    return kept
  })
  return `${kept.join('').trimEnd()}…`
}

/** 1536 as `1.5 KiB`. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`
}

/** `1 row`, `2 rows`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

/** 30000000 as `30M`. */
export function countText(count: number): string {
  if (count < 10_000) return String(count)
  for (const [size, unit] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (count >= size) return `${(count / size).toFixed(count / size < 10 ? 1 : 0)}${unit}`
  }
  return String(count)
}

/** Milliseconds as `8 ms`, `0.42 s`, `1.3 s`, `12 s`, `3 min`, `5 h` or `2 d`. */
export function durationText(ms: number): string {
  if (ms < 9.5) return `${Math.round(ms)} ms`
  if (ms < 995) return `${(ms / 1000).toFixed(2)} s`
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h`
  return `${Math.floor(ms / 86_400_000)} d`
}

/** A time as `2026-01-31 15:04`, in this machine's zone. */
export function timeText(at: number | undefined): string {
  if (at === undefined) return '-'
  const date = new Date(at)
  const two = (value: number) => String(value).padStart(2, '0')
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const FRAME_MS = 80
/** Work that is done sooner shows nothing. */
const QUIET_MS = 300

/** Shows what is being waited for, on a terminal only, until the work has ended. */
export async function withSpinner<T>(text: string, quiet: boolean, work: Promise<T>): Promise<T> {
  if (quiet || process.stderr.isTTY !== true) return work
  const startedAt = performance.now()
  let shown = false
  const timer = setInterval(() => {
    const elapsed = performance.now() - startedAt
    if (elapsed < QUIET_MS) return
    shown = true
    process.stderr.write(`\r\x1b[2K${FRAMES[Math.floor(elapsed / FRAME_MS) % FRAMES.length]} ${oneLine(text)}`)
  }, FRAME_MS)
  try {
    return await work
  } finally {
    clearInterval(timer)
    if (shown) process.stderr.write('\r\x1b[2K')
  }
}

/**
 * Runs work that Ctrl-C and SIGTERM end in good order: the mesh is told to stop what it does for us.
 * @throws Interrupted
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(130)
    controller.abort()
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  try {
    return await work(controller.signal)
  } catch (err) {
    throw controller.signal.aborted ? new Interrupted() : err
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}
