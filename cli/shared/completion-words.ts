import type { Command, Option } from 'commander'
import type { ValueKind } from './completion-values.js'

export interface Word {
  text: string
  summary: string
}

/** What may be a value: something that is looked up, one of some words, a file, or whatever a person writes. */
export type Values = { kind: ValueKind } | { words: string[] } | 'file' | 'any'

export interface OptionWord extends Word {
  /** With one dash. */
  short: string | undefined
  /** undefined: it takes none */
  values: Values | undefined
}

/** A command, `` being the program and `keys create` one with its subcommand. */
export interface Place {
  path: string
  /** Other ways to write the path. */
  aliases: string[]
  commands: Word[]
  options: OptionWord[]
  /** What its first argument may be, where that is known. */
  argument: Values | undefined
}

/** What the first argument of a command is, and what an option's value is, wherever the program says no choices for it. */
const ARGUMENTS: Record<string, Values> = {
  backup: 'file',
  'invite revoke': { kind: 'invites' },
  'keys limits': { kind: 'keys' },
  'keys revoke': { kind: 'keys' },
  'keys show': { kind: 'keys' },
  'keys update': { kind: 'keys' },
  logs: { kind: 'workers' },
  'members accept': { kind: 'requests' },
  'members refuse': { kind: 'requests' },
  'members remove': { kind: 'members' },
  'models add': 'file',
  'models approve': { kind: 'models' },
  'models default': { kind: 'models' },
  'models rm': { kind: 'models' },
  restore: 'file',
  'users limits': { kind: 'users' },
  'users passwd': { kind: 'users' },
  'users rm': { kind: 'users' },
  'users show': { kind: 'users' },
}
const OPTIONS: Record<string, Values> = {
  '--by': { words: ['key', 'user', 'model', 'day', 'hour'] },
  '--home': 'file',
  '--key-file': 'file',
  '--key-id': { kind: 'keys' },
  '--model': { kind: 'models' },
  '--models': { kind: 'models' },
  '--passphrase-file': 'file',
  '--processor': { kind: 'processors' },
  '--role': { words: ['auth', 'gateway', 'processor', 'metrics'] },
  '--schema': 'file',
  '--scope': { words: ['inference', 'read:usage', 'manage:keys', 'admin'] },
  '--user': { kind: 'users' },
}

/** Every command of the program, with what may follow it. */
export function placesOf(root: Command): Place[] {
  const places: Place[] = []
  const common = optionsOf(root)
  const help: OptionWord = { text: '--help', summary: 'print help', short: '-h', values: undefined }
  const visit = (command: Command, path: string, aliases: string[]) => {
    places.push({
      path,
      aliases,
      commands: command.commands.map((sub) => ({ text: sub.name(), summary: sub.summary() || sub.description() })),
      options: [...(command === root ? [] : optionsOf(command)), ...common, help],
      argument: wordsOf(command.registeredArguments[0]?.argChoices) ?? ARGUMENTS[path],
    })
    for (const sub of command.commands) {
      const others = [path, ...aliases].flatMap((before) =>
        [sub.name(), ...sub.aliases()].map((name) => `${before} ${name}`.trim()),
      )
      visit(sub, `${path} ${sub.name()}`.trim(), others.slice(1))
    }
  }
  visit(root, '', [])
  return places
}

function optionsOf(command: Command): OptionWord[] {
  return command.options
    .filter((option) => option.long !== undefined && !option.hidden)
    .map((option) => ({
      text: option.long ?? '',
      summary: option.description,
      short: option.short,
      values: valuesOf(option),
    }))
}

function valuesOf({ required, optional, argChoices, long }: Option): Values | undefined {
  if (!required && !optional) return undefined
  return wordsOf(argChoices) ?? OPTIONS[long ?? ''] ?? 'any'
}

/** What commander itself refuses other words for. */
function wordsOf(choices: readonly string[] | undefined): Values | undefined {
  return choices === undefined ? undefined : { words: [...choices] }
}
