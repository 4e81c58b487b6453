import type { OptionWord, Place, Values, Word } from './completion-words.js'

/** The options that say which mesh is meant: what looks up values gets them, too. */
const MESH_OPTIONS = ['--home', '--mesh', '--key']

/** Shell code that sets `place` to the commands among the words typed so far. (zsh ties `path` to PATH.) */
function placeLoop(places: Place[], typed: string): string {
  const cases = places
    .filter(({ path }) => path !== '')
    .map(
      ({ path, aliases }) =>
        `      ${[path, ...aliases].map((one) => JSON.stringify(one)).join('|')}) place="${path}" ;;`,
    )
  return `  local place="" word
  for word in ${typed}; do
    case "\${place:+$place }$word" in
${cases.join('\n')}
    esac
  done`
}

/** Lines of a `case` on the option before: what its value may be. */
function valueCases(places: Place[], words: (words: string[]) => string): string[] {
  const options = new Map(places.flatMap(({ options }) => options.map((option) => [option.text, option] as const)))
  return [...options.values()].flatMap(({ text, short, values }) => {
    if (values === undefined) return []
    const names = short === undefined ? text : `${short}|${text}`
    return [`    ${names}) ${valueCode(values, words)} ;;`]
  })
}

function argumentCases(places: Place[], words: (words: string[]) => string): string[] {
  return places.flatMap(({ path, argument }) =>
    argument === undefined ? [] : [`    ${JSON.stringify(path)}) ${valueCode(argument, words)} ;;`],
  )
}

function valueCode(values: Values, words: (words: string[]) => string): string {
  if (values === 'any') return 'return'
  if (values === 'file') return 'files=1'
  return 'kind' in values ? `kind=${values.kind}` : words(values.words)
}

export function bashScript(places: Place[]): string {
  const cases = places.map(
    ({ path, commands, options }) =>
      `    ${JSON.stringify(path)}) candidates="${[...commands, ...options].map(({ text }) => text).join(' ')}" ;;`,
  )
  const words = (list: string[]) => `values="${list.join(' ')}"`
  return `# bash completion for infermesh
_infermesh() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local candidates="" values="" kind="" files="" mesh=() at value
  # bash takes the = of --option=value as a word of its own.
  if [ "$current" = "=" ]; then current=""
  elif [ "$previous" = "=" ]; then previous="\${COMP_WORDS[COMP_CWORD-2]}"
  fi
${placeLoop(places, `"\${COMP_WORDS[@]:1:COMP_CWORD-1}"`)}
  case "$previous" in
${valueCases(places, words).join('\n')}
  esac
  if [ -z "$kind$values$files" ]; then
    case "$place" in
${cases.join('\n')}
    esac
    case "$current" in
      -*) ;;
      *)
        candidates=" $candidates"
        candidates="\${candidates%% -*}"
        case "$place" in
${argumentCases(places, words).join('\n')}
        esac ;;
    esac
  fi
  COMPREPLY=()
  if [ -n "$kind" ]; then
    for ((at = 1; at < COMP_CWORD; at++)); do
      case "\${COMP_WORDS[at]}" in
        ${MESH_OPTIONS.join('|')})
          value="\${COMP_WORDS[at+1]}"
          [ "$value" = "=" ] && value="\${COMP_WORDS[at+2]}"
          mesh+=("\${COMP_WORDS[at]}" "\${value/#\\~/$HOME}") ;;
      esac
    done
    while IFS=$'\\t' read -r value _; do
      [[ "$value" == "$current"* ]] && COMPREPLY+=("$value")
    done < <("$1" completion --values "$kind" "\${mesh[@]}" 2>/dev/null </dev/null)
  fi
  COMPREPLY+=($(compgen -W "$candidates $values" -- "$current"))
}
complete -o default -F _infermesh infermesh`
}

export function zshScript(places: Place[]): string {
  const item = ({ text, summary }: Word) => `'${text.replaceAll(':', '\\:')}:${quoted(summary).replaceAll(':', '\\:')}'`
  const cases = places.map(
    ({ path, commands, options }) =>
      `    ${JSON.stringify(path)}) candidates=(${[...commands, ...options].map(item).join(' ')}) ;;`,
  )
  const words = (list: string[]) => `values=(${list.map((text) => `'${text.replaceAll(':', '\\:')}'`).join(' ')})`
  return `#compdef infermesh
_infermesh() {
  local -a candidates values mesh
  local kind="" files="" value summary at
${placeLoop(places, `"\${(@)words[2,CURRENT-1]}"`)}
  case "$words[CURRENT-1]" in
${valueCases(places, words).join('\n')}
  esac
  if [[ -z "$kind$values$files" ]]; then
    case "$place" in
${cases.join('\n')}
    esac
    if [[ "$words[CURRENT]" != -* ]]; then
      candidates=(\${candidates:#-*})
      case "$place" in
${argumentCases(places, words).join('\n')}
      esac
    fi
  fi
  if [[ -n "$kind" ]]; then
    for ((at = 2; at < CURRENT; at++)); do
      case "$words[at]" in
        ${MESH_OPTIONS.join('|')}) mesh+=("$words[at]" "\${words[at+1]/#\\~/$HOME}") ;;
        ${MESH_OPTIONS.map((option) => `${option}=*`).join('|')}) mesh+=("$words[at]") ;;
      esac
    done
    while IFS=$'\\t' read -r value summary; do
      values+=("\${value//:/\\\\:}:$summary")
    done < <("$words[1]" completion --values "$kind" "\${mesh[@]}" 2>/dev/null </dev/null)
  fi
  if [[ -z "$values$candidates" ]]; then
    _files
    return
  fi
  (( $#values )) && _describe 'value' values
  (( $#candidates )) && _describe 'infermesh' candidates
}
compdef _infermesh infermesh
# Where zsh loads this file by itself, the file is the function.
if [ "$funcstack[1]" = "_infermesh" ]; then _infermesh "$@"; fi`
}

export function fishScript(places: Place[]): string {
  const lines = [
    '# fish completion for infermesh',
    'function __infermesh_values',
    '  set -l words (commandline -opc)',
    '  set -l mesh',
    '  for at in (seq 2 (count $words))',
    '    switch $words[$at]',
    `      case ${MESH_OPTIONS.join(' ')}`,
    '        set -l next (math $at + 1)',
    "        test $next -le (count $words); and set -a mesh $words[$at] (string replace -r '^~' $HOME -- $words[$next])",
    `      case ${MESH_OPTIONS.map((option) => `'${option}=*'`).join(' ')}`,
    '        set -a mesh $words[$at]',
    '    end',
    '  end',
    '  command $words[1] completion --values $argv[1] $mesh 2>/dev/null </dev/null',
    'end',
    'complete -c infermesh -f',
  ]
  const root = places.find(({ path }) => path === '')
  const isCommon = (option: OptionWord) => root?.options.some(({ text }) => text === option.text) === true
  for (const { path, aliases, commands, options, argument } of places) {
    const seen = path
      .split(' ')
      .filter(Boolean)
      .map((step, i) => {
        const names = new Set([step, ...aliases.map((alias) => alias.split(' ')[i] ?? step)])
        return `__fish_seen_subcommand_from ${[...names].join(' ')}`
      })
    const siblings = commands.map(({ text }) => text).join(' ')
    const notYet = siblings === '' ? [] : [`not __fish_seen_subcommand_from ${siblings}`]
    const when = (parts: string[]) => (parts.length === 0 ? '' : ` -n ${fishQuoted(parts.join('; and '))}`)
    for (const { text, summary } of commands) {
      lines.push(`complete -c infermesh${when([...seen, ...notYet])} -a ${text} -d ${fishQuoted(summary)}`)
    }
    if (argument !== undefined) lines.push(`complete -c infermesh${when(seen)}${fishValues(argument)}`)
    for (const option of path === '' ? options : options.filter((one) => !isCommon(one))) {
      const { text, short, summary, values } = option
      const names = ` -l ${text.slice(2)}${short === undefined ? '' : ` -s ${short.slice(1)}`}`
      const takes = values === undefined ? '' : ` -r${fishValues(values)}`
      lines.push(`complete -c infermesh${when(seen)}${names}${takes} -d ${fishQuoted(summary)}`)
    }
  }
  return lines.join('\n')
}

function fishValues(values: Values): string {
  if (values === 'file') return ' -F'
  if (values === 'any') return ' -f'
  return ` -f -a '${'kind' in values ? `(__infermesh_values ${values.kind})` : values.words.join(' ')}'`
}

/** For between single quotes of zsh. */
function quoted(text: string): string {
  return text.replaceAll("'", "'\\''")
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
