import type { Command } from 'commander'
import { MeshError } from '../../lib/protocol/index.js'
import { printLines } from '../shared/output.js'

export function define(command: Command): void {
  command
    .argument('<shell>', 'bash, zsh or fish')
    .addHelpText(
      'after',
      `
Examples:
  infermesh completion bash > ~/.local/share/bash-completion/completions/infermesh
  infermesh completion zsh > "\${fpath[1]}/_infermesh"
  infermesh completion fish > ~/.config/fish/completions/infermesh.fish`,
    )
    .action((shell: string, _options, self: Command) => {
      const root = self.parent
      if (root === null) return
      const words = wordsOf(root)
      const script = { bash: bashScript, zsh: zshScript, fish: fishScript }[shell]
      if (script === undefined) throw MeshError.BAD_REQUEST(`No completion for ${shell}: expected bash, zsh or fish`)
      printLines(script(words))
    })
}

interface Word {
  text: string
  summary: string
}
/** What may follow each command: keys are `` for the program, `keys`, `keys create`, … */
type Words = Map<string, { commands: Word[]; options: Word[] }>

function wordsOf(root: Command): Words {
  const words: Words = new Map()
  const common = optionsOf(root)
  const visit = (command: Command, path: string) => {
    words.set(path, {
      commands: command.commands.map((sub) => ({ text: sub.name(), summary: sub.summary() || sub.description() })),
      options: [...(command === root ? [] : optionsOf(command)), ...common, { text: '--help', summary: 'print help' }],
    })
    for (const sub of command.commands) visit(sub, `${path} ${sub.name()}`.trim())
  }
  visit(root, '')
  return words
}

function optionsOf(command: Command): Word[] {
  return command.options
    .filter((option) => option.long !== undefined && !option.hidden)
    .map((option) => ({ text: option.long ?? '', summary: option.description }))
}

/** Shell code that sets `place` to the commands among the words typed so far. (zsh ties `path` to PATH.) */
function placeLoop(words: Words, typed: string): string {
  const known = [...words.keys()].filter((path) => path !== '').map((path) => JSON.stringify(path))
  return `  local place="" word
  for word in ${typed}; do
    case "\${place:+$place }$word" in
      ${known.join('|')}) place="\${place:+$place }$word" ;;
    esac
  done`
}

function bashScript(words: Words): string {
  const cases = [...words].map(
    ([path, { commands, options }]) =>
      `    ${JSON.stringify(path)}) candidates="${[...commands, ...options].map(({ text }) => text).join(' ')}" ;;`,
  )
  return `# bash completion for infermesh
_infermesh() {
  local current="\${COMP_WORDS[COMP_CWORD]}" candidates=""
${placeLoop(words, `"\${COMP_WORDS[@]:1:COMP_CWORD-1}"`)}
  case "$place" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$candidates" -- "$current"))
}
complete -o default -F _infermesh infermesh`
}

function zshScript(words: Words): string {
  const item = ({ text, summary }: Word) =>
    `'${text.replaceAll(':', '\\:')}:${summary.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`
  const cases = [...words].map(
    ([path, { commands, options }]) =>
      `    ${JSON.stringify(path)}) candidates=(${[...commands, ...options].map(item).join(' ')}) ;;`,
  )
  return `#compdef infermesh
_infermesh() {
  local -a candidates
${placeLoop(words, `"\${(@)words[2,CURRENT-1]}"`)}
  case "$place" in
${cases.join('\n')}
  esac
  _describe 'infermesh' candidates || _files
}
compdef _infermesh infermesh
# Where zsh loads this file by itself, the file is the function.
if [ "$funcstack[1]" = "_infermesh" ]; then _infermesh "$@"; fi`
}

function fishScript(words: Words): string {
  const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
  const lines = ['# fish completion for infermesh', 'complete -c infermesh -f']
  for (const [path, { commands, options }] of words) {
    const steps = path.split(' ').filter(Boolean)
    const seen = steps.map((step) => `__fish_seen_subcommand_from ${step}`)
    const siblings = commands.map(({ text }) => text).join(' ')
    const notYet = siblings === '' ? [] : [`not __fish_seen_subcommand_from ${siblings}`]
    const when = (parts: string[]) => (parts.length === 0 ? '' : ` -n ${quote(parts.join('; and '))}`)
    for (const { text, summary } of commands) {
      lines.push(`complete -c infermesh${when([...seen, ...notYet])} -a ${text} -d ${quote(summary)}`)
    }
    for (const { text, summary } of path === '' ? options : options.filter((option) => !isCommon(words, option))) {
      lines.push(`complete -c infermesh${when(seen)} -l ${text.slice(2)} -d ${quote(summary)}`)
    }
  }
  return lines.join('\n')
}

function isCommon(words: Words, option: Word): boolean {
  return words.get('')?.options.some(({ text }) => text === option.text) ?? false
}
