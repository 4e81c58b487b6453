import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { Command } from 'commander'
import { z } from 'zod'
import { homeFiles, homePath, olderLog } from '../../lib/home/index.js'
import { MeshError, oneLine } from '../../lib/protocol/index.js'
import { optionsOf } from '../shared/mesh.js'
import { cyan, dim, printJsonLine, printLines, red, yellow } from '../shared/output.js'
import { integer } from '../shared/parse.js'

const POLL_MS = 200

export function define(command: Command): void {
  command
    .argument('[worker]', 'role, name or role-name (default: all)')
    .option('-f, --follow', 'go on with what comes')
    .option('-n, --lines <n>', 'how many of the last lines', integer, 50)
    .addHelpText(
      'after',
      '\nExamples:\n  infermesh logs\n  infermesh logs gateway -f\n  infermesh logs --json | jq .msg',
    )
    .action(async (worker: string | undefined, _options, self: Command) => {
      const options = optionsOf<{ follow?: boolean; lines: number }>(self)
      const { logDir } = homeFiles(homePath(options.home))
      const show = (line: string) => (options.json ? printJsonLine(line) : printLines(pretty(line)))
      const files = logFiles(logDir, worker)
      if (files.length === 0 && !options.follow) {
        throw MeshError.NOT_FOUND(
          worker === undefined ? `No logs in ${logDir}` : `No log of ${JSON.stringify(worker)} in ${logDir}`,
        )
      }
      const tails = new Map(files.map((path) => [path, new Tail(path)]))
      const lines = [...tails.values()]
        .flatMap((tail) => tail.last(options.lines))
        .sort((a, b) => timeOf(a) - timeOf(b))
      for (const line of options.lines === 0 ? [] : lines.slice(-options.lines)) show(line)
      while (options.follow) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS))
        for (const path of logFiles(logDir, worker)) if (!tails.has(path)) tails.set(path, new Tail(path))
        const more = [...tails.values()].flatMap((tail) => tail.read()).sort((a, b) => timeOf(a) - timeOf(b))
        for (const line of more) show(line)
      }
    })
}

/** A log that grows, line by line, and is put aside now and then. */
class Tail {
  readonly #path: string
  /** Stays open, so that what is written before the file is put aside is read to its end. */
  #fd: number | undefined
  #offset = 0
  #rest = ''

  constructor(path: string) {
    this.#path = path
  }

  /** The last lines that are there: as many as asked for, and more, of older files where the newest has fewer. */
  last(count: number): string[] {
    let lines = this.read()
    for (let age = 1; lines.length < count && existsSync(olderLog(this.#path, age)); age++) {
      lines = [...readFileSync(olderLog(this.#path, age), 'utf8').split('\n').filter(isLine), ...lines]
    }
    return lines
  }

  /** The whole lines that came since the last call. */
  read(): string[] {
    let text = this.#rest + this.#readOn()
    if (this.#isOther()) {
      // What came between the two looks.
      text += this.#readOn()
      if (this.#fd !== undefined) closeSync(this.#fd)
      this.#fd = openSync(this.#path, 'r')
      this.#offset = 0
      text += this.#readOn()
    }
    const lines = text.split('\n')
    this.#rest = lines.pop() ?? ''
    return lines.filter(isLine)
  }

  #readOn(): string {
    if (this.#fd === undefined) return ''
    const { size } = fstatSync(this.#fd)
    // A file that is shorter was emptied.
    if (size < this.#offset) this.#offset = 0
    const bytes = Buffer.alloc(size - this.#offset)
    const length = readSync(this.#fd, bytes, 0, bytes.byteLength, this.#offset)
    this.#offset += length
    return bytes.toString('utf8', 0, length)
  }

  /** Whether another file has the name than the one that is open. */
  #isOther(): boolean {
    const now = statSync(this.#path, { throwIfNoEntry: false })
    return now !== undefined && (this.#fd === undefined || fstatSync(this.#fd).ino !== now.ino)
  }
}

function isLine(text: string): boolean {
  return text !== ''
}

function logFiles(dir: string, worker: string | undefined): string[] {
  if (!existsSync(dir)) return []
  return readdirSync(dir)
    .filter((file) => file.endsWith('.log'))
    .filter((file) => {
      const id = basename(file, '.log')
      const dash = id.indexOf('-')
      return worker === undefined || worker === id || worker === id.slice(0, dash) || worker === id.slice(dash + 1)
    })
    .map((file) => join(dir, file))
}

/** A line as pino writes it. A field of another type, from whoever else wrote here, counts as missing. */
const entrySchema = z.looseObject({
  level: z.number().optional().catch(undefined),
  time: z.number().optional().catch(undefined),
  role: z.string().optional().catch(undefined),
  worker: z.string().optional().catch(undefined),
  msg: z.string().optional().catch(undefined),
  err: z.object({ message: z.string().optional(), stack: z.string().optional() }).optional().catch(undefined),
})
type Entry = z.infer<typeof entrySchema>

function parse(line: string): Entry | undefined {
  try {
    return entrySchema.safeParse(JSON.parse(line)).data
  } catch {
    return undefined
  }
}

function timeOf(line: string): number {
  return parse(line)?.time ?? 0
}

const LEVELS: [number, string][] = [
  [60, red('FATAL')],
  [50, red('ERROR')],
  [40, yellow('WARN ')],
  [30, 'INFO '],
  [20, dim('DEBUG')],
  [0, dim('TRACE')],
]

/** A line for people. What is no JSON is shown as it is. */
function pretty(line: string): string {
  const entry = parse(line)
  if (entry === undefined) return line
  const { level = 30, time = 0, role, worker, msg = '', err, ...facts } = entry
  const levelText = LEVELS.find(([from]) => level >= from)?.[1] ?? ''
  const at = new Date(time).toTimeString().slice(0, 8)
  const rest = Object.entries(facts)
    .filter(([name]) => name !== 'pid' && name !== 'hostname')
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
  const who = role === worker ? role : `${role} ${worker}`
  const problem = err === undefined ? '' : `\n${dim((err.stack ?? err.message ?? '').replace(/^/gm, '    '))}`
  return `${dim(at)} ${levelText} ${cyan(oneLine(who ?? ''))} ${oneLine(msg)}${rest.length > 0 ? dim(` ${oneLine(rest.join(' '))}`) : ''}${problem}`
}
