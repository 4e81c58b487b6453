import { readdirSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { oneLine } from '../../lib/errors/index.js'
import type { Completion } from '../terminal/typing.js'
import { cyan, print } from './output.js'

/** A command that a chat has besides its own. */
export interface ChatCommand {
  /** What may come behind its name. */
  argument?: string
  help: string
  /** What may come behind its name, asked for at Tab. */
  complete?: () => Promise<string[]>
  /** @param signal Ctrl-C */
  run: (argument: string, signal: AbortSignal) => Promise<void>
}

/** What may be typed behind a command's name. */
interface OwnCommand {
  name: string
  argument?: string
  help: string
}

const OWN: OwnCommand[] = [
  { name: '/model', argument: '[name]', help: 'use another model; without a name: list them' },
  { name: '/system', argument: '[text]', help: 'say how the model should behave; without a text: forget it' },
  { name: '/clear', help: 'begin a new conversation' },
  { name: '/save', argument: '<file>', help: 'write the conversation as JSON' },
  { name: '/stats', help: 'tokens, times and route of the last answer' },
  { name: '/plain', help: 'show answers as they come, or with Markdown again' },
]
const LAST: OwnCommand[] = [
  { name: '/help', help: 'this list' },
  { name: '/exit', help: 'leave (Ctrl-D)' },
]

/** The command that a text is, with what stands behind it; undefined where it is a message. */
export function commandOf(text: string): { name: string; argument: string } | undefined {
  const match = /^(\/[a-z]+)(?:\s+([\s\S]*))?$/.exec(text)
  if (match === null) return undefined
  const [, name = '', argument = ''] = match
  // Of several lines that begin with a path somebody wants to know something.
  if (text.includes('\n') && ![...OWN, ...LAST].some((command) => command.name === name)) return undefined
  return { name, argument }
}

/** Lists what a chat understands. */
export function printHelp(more: Record<string, ChatCommand>): void {
  const others = Object.entries(more).map(([name, { argument, help }]) => ({ name, argument, help }))
  for (const { name, argument, help } of [...OWN, ...others, ...LAST]) {
    print(`${cyan([name, argument].filter(Boolean).join(' ').padEnd(16))}${help}`)
  }
}

/**
 * What may come at the end of what is typed: names of commands, of models, of files, and what a further command offers.
 * @param models asked only where one is wanted
 */
export async function completeChat(
  text: string,
  more: Record<string, ChatCommand>,
  models: () => Promise<string[]>,
): Promise<Completion> {
  const [, command, argument = ''] = /^(\/[a-z]+) +(.*)$/.exec(text) ?? []
  if (command === undefined) {
    const others = Object.entries(more).map(([name, { argument: wanted }]) => ({ name, argument: wanted }))
    const own = [...OWN, ...others, ...LAST].map(({ name, argument: wanted }) =>
      wanted === undefined ? name : `${name} `,
    )
    return { from: 0, choices: /^\/[a-z]*$/.test(text) ? beginning(own, text) : [] }
  }
  const from = text.length - argument.length
  if (command === '/model') return { from, choices: beginning(await models(), argument) }
  if (command === '/save') return { from, choices: filesBeginning(argument) }
  const { complete } = more[command] ?? {}
  if (complete !== undefined) return { from, choices: beginning(await complete(), argument) }
  return { from, choices: [] }
}

/** A path as a person types it: `~/` is the home directory. */
export function expandPath(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path
}

function beginning(choices: string[], start: string): string[] {
  return choices.filter((choice) => choice.startsWith(start)).sort()
}

/** Files and folders, the latter with a slash behind; those alone whose names can be shown as they are. */
function filesBeginning(start: string): string[] {
  const isFolder = start === '' || start.endsWith('/')
  const name = isFolder ? '' : basename(start)
  const typed = start.slice(0, start.length - name.length)
  const folder = expandPath(isFolder ? start : dirname(start)) || '.'
  try {
    return readdirSync(folder)
      .filter((file) => file.startsWith(name) && (name !== '' || !file.startsWith('.')) && oneLine(file) === file)
      .sort()
      .map((file) => `${typed}${file}${isDirectory(join(folder, file)) ? '/' : ''}`)
  } catch {
    return []
  }
}

/** What cannot be looked at, such as a link to itself, counts as a file. */
function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}
