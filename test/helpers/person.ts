import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'brittle'
import type { Role, WorkerStatus } from '../../lib/protocol/index.js'
import { type Child, CLI, type Exit, ready, spawnProgram } from './mesh.js'
import { plugIn } from './namespaces.js'
import { readPage } from './page.js'

/** Somebody at a machine of their own, who knows what the README says and types that. */

const README = readPage('../README.md')
/** The lines of its commands, without what they say behind a #, and what it shows in the midst of a sentence. */
const SHOWN = new Set([
  ...[...README.matchAll(/^```sh\n([\s\S]+?)^```/gm)].flatMap(([, block = '']) =>
    block.split('\n').map((line) => line.replace(/\s+#.*$/, '')),
  ),
  ...[...README.matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text),
])

export interface Typing {
  /** What to put in the place of the README's own, such as `imv_…`. */
  fill?: Record<string, string>
  /** Further arguments, which the README leaves to the person. */
  more?: string
  /** Lines that were typed before, such as `export A=b`. */
  before?: string
}

export class Person {
  /** Where this machine keeps what `~` means. */
  readonly dir: string
  readonly home: string
  readonly #t: Test
  readonly #enter: string[]

  private constructor(t: Test, dir: string, enter: string[]) {
    this.#t = t
    this.dir = dir
    this.home = join(dir, '.infermesh')
    this.#enter = enter
  }

  /** @param host the last part of the machine's address */
  static async at(t: Test, name: string, host: number): Promise<Person> {
    const dir = await t.tmp()
    mkdirSync(join(dir, 'bin'))
    const program = join(dir, 'bin', 'infermesh')
    writeFileSync(program, `#!/bin/sh\nexec "${process.execPath}" "${CLI}" "$@"\n`)
    chmodSync(program, 0o755)
    return new Person(t, dir, plugIn(name, host))
  }

  /** Runs a command of the README. @returns what it printed. @throws Error where it fails, or where the README has no such line */
  async type(line: string, typing: Typing = {}): Promise<string> {
    const { code, stdout, stderr } = await this.tries(line, typing)
    if (code !== 0) throw new Error(`${line} ended with ${code}: ${stderr}${stdout}`)
    return stdout
  }

  /** Runs a command of the README, which may fail. */
  tries(line: string, typing: Typing = {}): Promise<Exit> {
    return this.begin(line, typing).exited
  }

  /** Starts a command of the README that goes on. */
  begin(line: string, { fill = {}, more = '', before = '' }: Typing = {}): Child {
    if (!SHOWN.has(line)) throw new Error(`The README has no line ${line}`)
    const filled = Object.entries(fill).reduce((text, [from, to]) => text.replace(from, () => to), line)
    return this.#spawn(['sh', '-c', `${before}\nexec ${filled} ${more}`])
  }

  /** Runs a program of this machine. @throws Error where it fails */
  async run(command: string[], { cwd, env }: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.#spawn(command, cwd, env).exited
    if (code !== 0) throw new Error(`${command.join(' ').slice(0, 200)} ended with ${code}: ${stderr}${stdout}`)
    return stdout
  }

  /** What `infermesh <args> --json` gives, to look closer than a person does. */
  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.run(['infermesh', ...args, '--json'])) as T
  }

  /** What a worker of this machine says of itself once it is ready. */
  worker(role: Role, name: string): Promise<WorkerStatus> {
    return ready(this.home, role, name, undefined, 60_000)
  }

  #spawn(command: string[], cwd = this.dir, env: NodeJS.ProcessEnv = {}): Child {
    const PATH = `${join(this.dir, 'bin')}:${process.env.PATH}`
    const all = { PATH, HOME: this.dir, NO_COLOR: '1', ...env }
    return spawnProgram(this.#t, [...this.#enter, ...command], { cwd, env: all })
  }
}

/** The code of one of the README's examples. @param name absent: of the one without a name */
export function exampleOf(name?: string): string {
  const mark = name === undefined ? '<!-- example -->' : `<!-- example: ${name} -->`
  const [, code] = new RegExp(`${mark}\\n\`\`\`\\w+\\n([\\s\\S]+?)\`\`\``).exec(README) ?? []
  if (code === undefined) throw new Error(`The README has no ${mark}`)
  return code
}
