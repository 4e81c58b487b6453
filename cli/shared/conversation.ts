import { writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { ChatMessage, Finish, MeshClient } from '../../lib/client/index.js'
import { MeshError, messageOf, systemCode } from '../../lib/protocol/index.js'
import { againText } from './errors.js'
import { fileFault } from './files.js'
import { Lines } from './lines.js'
import { MODEL_HEAD, modelRows } from './models.js'
import {
  bold,
  cyan,
  dim,
  durationText,
  onTerminal,
  print,
  printTable,
  red,
  withSpinner,
  writeAnswer,
} from './output.js'

const HELP = [
  ['/model [name]', 'use another model; without a name: list them'],
  ['/system [text]', 'say how the model should behave; without a text: forget it'],
  ['/clear', 'begin a new conversation'],
  ['/save <file>', 'write the conversation as JSON'],
  ['/stats', 'tokens, times and route of the last answer'],
  ['/help', 'this list'],
  ['/exit', 'leave (Ctrl-D)'],
]

export interface ConversationOptions {
  model?: string
  system?: string
  historyFile: string
  /** Further commands, by name with their slash: `/status`. */
  commands?: Record<string, { help: string; run: (argument: string) => Promise<void> }>
}

/** A conversation with a model in a terminal or over pipes. */
export class Conversation {
  #mesh: MeshClient
  readonly #options: ConversationOptions
  #model: string | undefined
  #system: string | undefined
  #messages: ChatMessage[] = []
  #answering: AbortController | undefined
  #last: { finish: Finish; firstTokenMs: number; totalMs: number } | undefined

  constructor(mesh: MeshClient, options: ConversationOptions) {
    this.#mesh = mesh
    this.#options = options
    this.#model = options.model
    this.#system = options.system
  }

  /** Asks through another client from now on. */
  use(mesh: MeshClient): void {
    this.#mesh = mesh
  }

  /** Goes on until the person leaves or the input ends. An answer that fails is said, and the conversation goes on. */
  async run(): Promise<void> {
    // Ctrl-C stops the answer under way, never the program: at the prompt the terminal's keys come as input.
    const onSignal = () => this.#answering?.abort()
    process.on('SIGINT', onSignal)
    try {
      await this.#talk()
    } finally {
      process.off('SIGINT', onSignal)
    }
  }

  async #talk(): Promise<void> {
    for await (const line of new Lines(bold('> '), this.#options.historyFile)) {
      const text = line.trim()
      if (text === '') continue
      if (text === '/exit' || text === '/quit' || text === '/bye') return
      try {
        if (/^\/[a-z]+( |$)/.test(text)) await this.#command(text)
        else await this.#ask(text)
      } catch (err) {
        const failure = MeshError.from(err)
        if (failure.code === 'CANCELLED') print(dim('(stopped)'))
        else print(red(`${againText(failure)}${failure.code === 'INTERNAL' ? `: ${messageOf(err)}` : ''}`))
      }
    }
  }

  /** Asks once and shows the answer as it comes. A question without an answer leaves no trace in the conversation. */
  async #ask(text: string): Promise<void> {
    const answering = new AbortController()
    this.#answering = answering
    const question: ChatMessage = { role: 'user', content: text }
    const system: ChatMessage[] = this.#system === undefined ? [] : [{ role: 'system', content: this.#system }]
    const startedAt = performance.now()
    const answer = this.#mesh.chat(
      { model: this.#model, messages: [...system, ...this.#messages, question] },
      { signal: answering.signal },
    )
    const chunks = answer[Symbol.asyncIterator]()
    let said = ''
    try {
      let next = await withSpinner('thinking', false, chunks.next())
      const firstTokenMs = performance.now() - startedAt
      for (; !next.done; next = await chunks.next()) {
        said += next.value.text
        writeAnswer(next.value.text)
      }
      const { finish } = await answer.result
      this.#last = { finish, firstTokenMs, totalMs: performance.now() - startedAt }
    } finally {
      this.#answering = undefined
      if (said !== '' && !said.endsWith('\n')) print()
      // Also what was stopped half-way was said.
      if (said !== '') this.#messages.push(question, { role: 'assistant', content: said })
    }
    if (onTerminal()) print(dim(statsLine(this.#last)))
  }

  async #command(text: string): Promise<void> {
    const [name = '', ...rest] = text.split(/\s+/)
    const argument = rest.join(' ')
    switch (name) {
      case '/model':
        return this.#chooseModel(argument)
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
      case '/help': {
        const more = Object.entries(this.#options.commands ?? {}).map(([command, { help }]) => [command, help])
        for (const [command = '', help = ''] of [...HELP.slice(0, -2), ...more, ...HELP.slice(-2)]) {
          print(`${cyan(command.padEnd(16))}${help}`)
        }
        return
      }
    }
    const other = this.#options.commands?.[name]
    if (other === undefined) throw MeshError.BAD_REQUEST(`There is no command ${name}; /help lists them`)
    await other.run(argument)
  }

  async #chooseModel(name: string): Promise<void> {
    const models = await this.#mesh.models()
    if (name === '') return printTable(MODEL_HEAD, modelRows(models), 'No models yet.')
    if (!models.some((model) => model.name === name)) {
      throw MeshError.MODEL_NOT_FOUND(`The mesh has no model ${name}; it has ${models.map((m) => m.name).join(', ')}`)
    }
    this.#model = name
    print(dim(`Answers come from ${name} now`))
  }

  #save(file: string): void {
    if (file === '') throw MeshError.BAD_REQUEST('Say where: /save conversation.json')
    const { finish } = this.#last ?? {}
    const saved = { model: this.#model ?? finish?.route?.model, system: this.#system, messages: this.#messages }
    try {
      writeFileSync(file, `${JSON.stringify(saved, null, 2)}\n`, { mode: 0o600 })
    } catch (err) {
      // The file itself need not be there.
      const missing = systemCode(err) === 'ENOENT' ? dirname(file) : file
      throw MeshError.from(err, 'BAD_REQUEST', fileFault(missing, err))
    }
    print(dim(`Saved ${this.#messages.length} messages in ${file}`))
  }
}

interface Stats {
  finish: Finish
  firstTokenMs: number
  totalMs: number
}

/** One line about an answer: what made it, and how fast. */
export function statsLine(stats: Stats | undefined): string {
  if (stats === undefined) return ''
  const { finish, firstTokenMs, totalMs } = stats
  const { usage, route } = finish
  const rate = rateOf(stats)
  return [
    route === undefined
      ? undefined
      : `${route.model} ${route.quantisation} on ${route.processor} through ${route.gateway}`,
    `first token ${durationText(firstTokenMs)}`,
    `${usage.completionTokens} tokens in ${durationText(totalMs)}`,
    rate === undefined ? undefined : `${rate.toFixed(0)} tokens/s`,
    cutText(finish),
  ]
    .filter((part) => part !== undefined)
    .join(' · ')
}

/** What an answer was cut by; undefined where it is whole. */
function cutText({ reason, cutBy }: Finish): string | undefined {
  if (cutBy === 'budget') return 'cut: the budget has no more tokens'
  return reason === 'length' ? 'cut at the longest length' : undefined
}

/** Tokens per second after the first; undefined where there were too few to say. */
function rateOf({ finish, firstTokenMs, totalMs }: Stats): number | undefined {
  const tokens = finish.usage.completionTokens - 1
  return tokens > 1 && totalMs > firstTokenMs ? (tokens * 1000) / (totalMs - firstTokenMs) : undefined
}

function printStats(stats: Stats): void {
  const { finish, firstTokenMs, totalMs } = stats
  const { usage, route, timing } = finish
  const rows: [string, string][] = [
    [
      'model',
      route === undefined ? '-' : `${route.model} (${route.quantisation}, file ${route.modelHash.slice(0, 12)})`,
    ],
    ['processor', route?.processor ?? '-'],
    ['gateway', route?.gateway ?? '-'],
    ['prompt', `${usage.promptTokens} tokens, ${usage.cachedTokens} of them cached`],
    ['answer', `${usage.completionTokens} tokens, ended by ${finish.reason}`],
    ['queue', timing === undefined ? '-' : durationText(timing.queueMs)],
    ['first token', durationText(firstTokenMs)],
    ['total', durationText(totalMs)],
    ['speed', rateOf(stats) === undefined ? '-' : `${rateOf(stats)?.toFixed(1)} tokens/s`],
  ]
  for (const [name, value] of rows) print(`${dim(name.padEnd(12))}${value}`)
}
