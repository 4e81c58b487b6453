import { type ChildProcess, fork } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { FromEngine, ToEngine } from './engine/messages.js'

export const ENGINE_MODULE = fileURLToPath(new URL('./engine/main.js', import.meta.url))
/** The engine's own objects are few and short-lived: a small young generation keeps its memory low at no loss of speed. */
const NODE_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=512']
/** What an engine may need to end on its own before it is killed. */
const END_MS = 1000
const KEPT_LINES = 20
/** How the lines begin that say why a process aborts: an assertion, a C++ exception, a GPU driver's error. */
const LAST_WORDS = /GGML_ASSERT|terminate called|what\(\):|CUDA error|vk::|out of memory/

export interface ChildHooks {
  onMessage: (message: FromEngine) => void
  /** Once, when the process is gone, for whatever reason. */
  onExit: (how: string, signal: NodeJS.Signals | null) => void
}

/** One engine process. */
export class EngineChild {
  readonly #process: ChildProcess
  readonly #exited: Promise<void>
  readonly #lines: string[] = []

  constructor(modulePath: string, env: Record<string, string>, hooks: ChildHooks) {
    this.#process = fork(modulePath, [], {
      execArgv: NODE_FLAGS,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.#process.on('message', (message) => hooks.onMessage(message as FromEngine))
    this.#exited = new Promise((resolve) => {
      let gone = false
      const end = (how: string, signal: NodeJS.Signals | null) => {
        if (gone) return
        gone = true
        resolve()
        hooks.onExit(how, signal)
      }
      this.#process.on('exit', (code, signal) =>
        end(signal ? `was ended by ${signal}` : `ended with code ${code}`, signal),
      )
      this.#process.on('error', (err) => {
        if (this.#process.pid === undefined) end(`could not be started: ${err.message}`, null)
      })
    })
    if (this.#process.stderr) {
      createInterface({ input: this.#process.stderr }).on('line', (line) => this.note(line))
    }
  }

  /** Keeps a line that llama.cpp wrote. They are not logged as they come: some quote what a user sent. */
  note(line: string): void {
    this.#lines.push(line)
    if (this.#lines.length > KEPT_LINES) this.#lines.shift()
  }

  /** Why the last grammar did not compile, where llama.cpp said so; asked once. */
  grammarComplaint(): string | undefined {
    const line = this.#lines.findLast((one) => one.includes('grammar') && !one.startsWith('failed to parse grammar'))
    this.#lines.length = 0
    return line?.replace(/^.*error parsing grammar: /, '')
  }

  /** What a crashed engine said last, ready to be put behind a sentence. */
  lastWords(): string {
    const line = this.#lines.findLast((one) => LAST_WORDS.test(one))
    return line === undefined ? '' : `: ${line}`
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  send(message: ToEngine): void {
    // A channel that closed in between shows as an exit, which says more.
    if (this.#process.connected) this.#process.send(message, () => {})
  }

  /** Ends the process and resolves once it is gone. Disconnecting is the polite way: an engine without channel exits. */
  async end(): Promise<void> {
    if (this.#process.connected) this.#process.disconnect()
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), END_MS)
    await this.#exited
    clearTimeout(timer)
  }
}
