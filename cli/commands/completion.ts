import { Argument, type Command, Option } from 'commander'
import { MeshError } from '../../lib/protocol/index.js'
import { bashScript, fishScript, zshScript } from '../shared/completion-scripts.js'
import { type Place, placesOf } from '../shared/completion-words.js'
import { optionsOf } from '../shared/mesh.js'
import { printLines } from '../shared/output.js'

const SCRIPTS: Partial<Record<string, (places: Place[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
}

export function define(command: Command): void {
  command
    .addArgument(new Argument('[shell]', 'what to print it for').choices(Object.keys(SCRIPTS)))
    // What the scripts call.
    .addOption(new Option('--values <kind>', 'print what may stand in a place').hideHelp())
    .addHelpText(
      'after',
      `
Tab then completes commands, options, and what the mesh has: models, users, keys, members.

Examples:
  infermesh completion bash > ~/.local/share/bash-completion/completions/infermesh
  infermesh completion zsh > "\${fpath[1]}/_infermesh"
  infermesh completion fish > ~/.config/fish/completions/infermesh.fish`,
    )
    .action(async (shell: string | undefined, _options, self: Command) => {
      const options = optionsOf<{ values?: string }>(self)
      if (options.values !== undefined) {
        const { printValues } = await import('../shared/completion-values.js')
        return printValues(options.values, options)
      }
      const root = self.parent
      if (root === null) return
      const script = SCRIPTS[shell ?? '']
      if (script === undefined) {
        throw MeshError.BAD_REQUEST(`Say for which shell: expected ${Object.keys(SCRIPTS).join(', ')}`)
      }
      printLines(script(placesOf(root)))
    })
}
