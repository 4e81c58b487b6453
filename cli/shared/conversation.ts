import { writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { ChatMessage, MeshClient } from '../../lib/client/index.js'
import { MeshError, messageOf, systemCode } from '../../lib/protocol/index.js'
import { answerWriter } from '../terminal/answer-writer.js'
import { isInteractive, typedMessages } from '../terminal/typing.js'
import { cutText, printStats, type Stats, statsLine } from './answer-stats.js'
import { type ChatCommand, commandOf, completeChat, expandPath, printHelp } from './chat-commands.js'
import { againText, Interrupted, printError } from './errors.js'
import { fileFault } from './files.js'
import { MODEL_HEAD, modelRows, mustHaveModel } from './models.js'
import { counted, dim, onTerminal, print, printTable, red, withSpinner } from './output.js'

/** How long Tab waits for the names of models, and how long it keeps them. */
const NAMES_MS = 1000
const NAMES_KEPT_MS = 10_000

export interface ConversationOptions {
  model?: string
  system?: string
  /** Answers as they come, without Markdown. */
  plain?: boolean
  historyFile: string
  /** Further commands, by name with their slash: `/status`. */
  commands?: Record<string, ChatCommand>
}

/** A conversation with a model in a terminal or over pipes. */
export class Conversation {
  #mesh: MeshClient
  readonly #historyFile: string
  readonly #commands: Record<string, ChatCommand>
  readonly #isInteractive = isInteractive()
  #model: string | undefined
  #system: string | undefined
  #isPlain: boolean
  #messages: ChatMessage[] = []
  #working: AbortController | undefined
  #last: Stats | undefined
  #exitCode = 0
  #names: { at: number; names: string[] } | undefined

  constructor(mesh: MeshClient, { model, system, plain = false, historyFile, commands = {} }: ConversationOptions) {
    this.#mesh = mesh
    this.#historyFile = historyFile
    this.#commands = commands
    this.#model = model
    this.#system = system
    this.#isPlain = plain
  }

  /** Asks through another client from now on. */
  use(mesh: MeshClient): void {
    this.#mesh = mesh
    this.#names = undefined
  }

  /**
   * Goes on until the person leaves or the input ends. An answer that fails is said, and the conversation goes on.
   * @returns an exit code: over pipes the first failure's, in a terminal 0
   * @throws Interrupted where Ctrl-C ends a conversation over pipes
   */
  async run(): Promise<number> {
    let onSignal = () => this.#working?.abort()
    const interrupted = new Promise<never>((_, reject) => {
      if (this.#isInteractive) return
      onSignal = () => {
        this.#working?.abort()
        // What is still to come of the input must not keep the program.
        process.stdin.destroy()
        reject(new Interrupted())
      }
    })
    const handler = () => onSignal()
    process.on('SIGINT', handler)
    try {
      await Promise.race([this.#talk(), interrupted])
      return this.#exitCode
    } finally {
      process.off('SIGINT', handler)
    }
  }

  async #talk(): Promise<void> {
    const messages = typedMessages({
      historyFile: this.#historyFile,
      complete: (text) => completeChat(text, this.#commands, () => this.#modelNames()),
      onInterrupt: () => this.#working?.abort(),
    })
    for await (const text of messages) {
      if (text === '') continue
      if (text === '/exit' || text === '/quit' || text === '/bye') return
      const command = commandOf(text)
      this.#working = new AbortController()
      try {
        if (command === undefined) await this.#ask(text, this.#working.signal)
        else await this.#command(command.name, command.argument, this.#working.signal)
      } catch (err) {
        this.#say(err)
      } finally {
        this.#working = undefined
      }
    }
  }

  /** Says what failed: to a person below the question, over pipes on standard error. */
  #say(err: unknown): void {
    const failure = MeshError.from(err)
    if (!this.#isInteractive) {
      const exitCode = printError(err, false)
      if (this.#exitCode === 0) this.#exitCode = exitCode
    } else if (failure.code === 'CANCELLED') print(dim('(stopped)'))
    else print(red(`${againText(failure)}${failure.code === 'INTERNAL' ? `: ${messageOf(err)}` : ''}`))
  }

  /** Asks once and shows the answer as it comes. A question without an answer leaves no trace in the conversation. */
  async #ask(text: string, signal: AbortSignal): Promise<void> {
    const question: ChatMessage = { role: 'user', content: text }
    const system: ChatMessage[] = this.#system === undefined ? [] : [{ role: 'system', content: this.#system }]
    const startedAt = performance.now()
    const answer = this.#mesh.chat(
      { model: this.#model, messages: [...system, ...this.#messages, question] },
      { signal },
    )
    const chunks = answer[Symbol.asyncIterator]()
    const writer = answerWriter(this.#isPlain)
    let said = ''
    try {
      let next = await withSpinner('thinking', false, chunks.next())
      const firstTokenMs = performance.now() - startedAt
      for (; !next.done; next = await chunks.next()) {
        said += next.value.text
        writer.write(next.value.text)
      }
      const { finish } = await answer.result
      this.#last = { finish, firstTokenMs, totalMs: performance.now() - startedAt }
    } finally {
      writer.end()
      if (said !== '' && !said.endsWith('\n')) print()
      // Also what was stopped half-way was said.
      if (said !== '') this.#messages.push(question, { role: 'assistant', content: said })
    }
    if (!onTerminal()) return
    const cut = cutText(this.#last.finish)
    if (cut !== undefined) print(dim(`(${cut})`))
    print(dim(statsLine(this.#last)))
  }

  async #command(name: string, argument: string, signal: AbortSignal): Promise<void> {
    switch (name) {
      case '/model':
        return this.#chooseModel(argument, signal)
      case '/system':
        this.#system = argument === '' ? undefined : argument
        return print(dim(argument === '' ? 'No system message any more' : 'The system message is set'))
      case '/clear':
        this.#messages = []
        return print(dim('A new conversation'))
      case '/save':
        return this.#save(argument)
      case '/stats':
        return this.#last === undefined ? print(dim('No answer yet')) : printStats(this.#last)
      case '/plain':
        this.#isPlain = !this.#isPlain
        return print(dim(this.#isPlain ? 'Answers are shown as they come' : 'Answers are shown with Markdown'))
      case '/help':
        return printHelp(this.#commands)
    }
    const other = this.#commands[name]
    if (other === undefined) throw MeshError.BAD_REQUEST(`There is no command ${name}; /help lists them`)
    await other.run(argument, signal)
  }

  async #chooseModel(name: string, signal: AbortSignal): Promise<void> {
    if (name === '') {
      return printTable(MODEL_HEAD, modelRows(await this.#mesh.models({ signal })), 'No models yet.')
    }
    await mustHaveModel(this.#mesh, name, signal)
    this.#model = name
    print(dim(`Answers come from ${name} now`))
  }

  /** For Tab: what fails or takes long offers nothing. */
  async #modelNames(): Promise<string[]> {
    const now = performance.now()
    if (this.#names === undefined || now - this.#names.at > NAMES_KEPT_MS) {
      const models = await this.#mesh.models({ timeoutMs: NAMES_MS }).catch(() => [])
      this.#names = { at: now, names: models.map((model) => model.name) }
    }
    return this.#names.names
  }

  #save(path: string): void {
    if (path === '') throw MeshError.BAD_REQUEST('Say where: /save conversation.json')
    const { finish } = this.#last ?? {}
    const saved = { model: this.#model ?? finish?.route?.model, system: this.#system, messages: this.#messages }
    const file = expandPath(path)
    try {
      writeFileSync(file, `${JSON.stringify(saved, null, 2)}\n`, { mode: 0o600 })
    } catch (err) {
      // The file itself need not be there.
      const missing = systemCode(err) === 'ENOENT' ? dirname(file) : file
      throw MeshError.from(err, 'BAD_REQUEST', fileFault(missing, err))
    }
    print(dim(`Saved ${counted(this.#messages.length, 'message')} in ${file}`))
  }
}
