import type { Command } from 'commander'
import { MeshClient } from '../../lib/client/index.js'
import { homeFiles, homePath, makePrivateDir } from '../../lib/home/index.js'
import { Conversation } from '../shared/conversation.js'
import { clientOptions, optionsOf } from '../shared/mesh.js'
import { dim, onTerminal, print, withSpinner } from '../shared/output.js'
import { printStatus } from './status.js'

export function define(command: Command): void {
  command
    .option('-m, --model <name>', 'which model (default: the mesh’s)')
    .option('--system <text>', 'how the model should behave')
    .addHelpText(
      'after',
      `
In it: /model /system /clear /save /stats /status /help /exit. A line that ends with \\ goes on.
Ctrl-C stops the answer; at an empty prompt twice it leaves.

Examples:
  infermesh chat
  infermesh chat --model phi-4 --system "Answer in one sentence."`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ model?: string; system?: string }>(self)
      const home = homePath(options.home)
      const mesh = new MeshClient(clientOptions(options))
      try {
        await withSpinner('looking for the mesh', false, mesh.connect())
        if (onTerminal()) print(dim(`Connected with ${mesh.gateway?.name}. /help lists the commands.`))
        makePrivateDir(home)
        await new Conversation(mesh, {
          model: options.model,
          system: options.system,
          historyFile: homeFiles(home).chatHistory,
          commands: {
            '/status': { help: 'workers and models', run: async () => printStatus(await mesh.status()) },
          },
        }).run()
      } finally {
        await mesh.close()
      }
    })
}
