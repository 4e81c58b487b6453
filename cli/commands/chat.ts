import type { Command } from 'commander'
import { MeshClient } from '../../lib/client/index.js'
import { homeFiles, homePath, makePrivateDir } from '../../lib/home/index.js'
import { Conversation } from '../shared/conversation.js'
import { clientOptions, optionsOf } from '../shared/mesh.js'
import { mustHaveModel } from '../shared/models.js'
import { dim, onTerminal, print, withSpinner } from '../shared/output.js'
import { printStatus } from '../shared/status.js'

export function define(command: Command): void {
  command
    .option('-m, --model <name>', 'which model (default: the mesh’s)')
    .option('--system <text>', 'how the model should behave')
    .option('--plain', 'show answers as they come, without Markdown')
    .addHelpText(
      'after',
      `
In it /help lists the commands; Tab completes them, models and files. What is pasted is one message, sent at Enter. Alt-Enter,
a \\ at the end of a line, or """ before and after it, make a message of several lines. Ctrl-C stops the answer; at an empty
prompt twice it leaves. Over pipes each line is a message, and the exit code is that of the first that failed.

Examples:
  infermesh chat
  infermesh chat --model phi-4 --system "Answer in one sentence."`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ model?: string; system?: string; plain?: boolean }>(self)
      const home = homePath(options.home)
      const mesh = new MeshClient(clientOptions(options))
      try {
        await withSpinner('looking for the mesh', false, mesh.connect())
        if (options.model !== undefined) await mustHaveModel(mesh, options.model)
        if (onTerminal()) print(dim(`Connected with ${mesh.gateway?.name}. /help lists the commands.`))
        makePrivateDir(home)
        process.exitCode = await new Conversation(mesh, {
          model: options.model,
          system: options.system,
          plain: options.plain,
          historyFile: homeFiles(home).chatHistory,
          commands: {
            '/status': {
              help: 'workers and models',
              run: async (_argument, signal) => printStatus(await mesh.status({ signal })),
            },
          },
        }).run()
      } finally {
        await mesh.close()
      }
    })
}
