import type { Command } from 'commander'
import { MeshClient } from '../../lib/client/index.js'
import { clientOptions, optionsOf } from '../shared/mesh.js'
import { cyan, dim, interruptible, print, printJson, withSpinner } from '../shared/output.js'
import { port } from '../shared/parse.js'
import { startProxy } from '../shared/proxy.js'

const PORT = 8081

export function define(command: Command): void {
  command
    .option('--port <port>', 'where to listen; 0 picks a free port', port, PORT)
    .option('--host <address>', 'on which address of this machine', '127.0.0.1')
    .addHelpText(
      'after',
      `
Programs that speak OpenAI use http://127.0.0.1:${PORT}/v1 as base URL. On this machine they need no key: requests
without one are made with yours. On any other address (--host) each request wants a key of the mesh.

Examples:
  infermesh proxy
  OPENAI_BASE_URL=http://127.0.0.1:${PORT}/v1 OPENAI_API_KEY=none my-program`,
    )
    .action(async (_options, self: Command) => {
      const options = optionsOf<{ port: number; host: string }>(self)
      await interruptible(async (signal) => {
        const mesh = new MeshClient(clientOptions(options))
        try {
          await withSpinner('looking for the mesh', options.json === true, mesh.connect({ signal }))
          const proxy = await startProxy({ fetch: mesh.fetch, host: options.host, port: options.port })
          try {
            const { url, lendsKey } = proxy
            if (options.json) printJson({ url, baseURL: `${url}/v1`, key: lendsKey ? 'optional' : 'required' })
            else {
              print(`Serving the mesh at ${cyan(`${url}/v1`)}, by way of ${mesh.gateway?.name}.`)
              print(
                dim(lendsKey ? 'No key is needed here. Ctrl-C ends it.' : 'Every request wants a key. Ctrl-C ends it.'),
              )
            }
            await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
          } finally {
            await proxy.close()
          }
        } finally {
          await mesh.close()
        }
      })
    })
}
