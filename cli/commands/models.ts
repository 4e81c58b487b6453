import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { MeshClient } from '../../lib/client/index.js'
import { homePath } from '../../lib/home/index.js'
import { command } from '../shared/hints.js'
import { warnOfModels } from '../shared/limits.js'
import { optionsOf, withMesh } from '../shared/mesh.js'
import { MODEL_HEAD, modelRows } from '../shared/models.js'
import { bytesText, dim, print, printJson, printTable, yellow } from '../shared/output.js'

export function define(models: Command): void {
  models.addHelpText(
    'after',
    `
Examples:
  infermesh models ls
  infermesh models add ~/models/Qwen2.5-7B-Instruct-Q4_K_M.gguf
  infermesh models add /data/phi-4.gguf --name phi-4 --processor p1
  infermesh models rm phi-4
  infermesh models default phi-4
  infermesh models approve phi-4 --processor friend`,
  )

  models
    .command('ls')
    .alias('list')
    .description('list the mesh’s models and who has them')
    .addHelpText('after', '\nExample:\n  infermesh models ls --json')
    .action(async (_options, self: Command) => {
      const common = optionsOf(self)
      const home = homePath(common.home)
      const found = await withMesh(common, (mesh, signal) => mesh.models({ signal }))
      if (common.json) printJson({ models: found })
      else {
        printTable(MODEL_HEAD, modelRows(found), `No models yet: ${command('models add <file.gguf>', home)}.`)
        const lost = found.filter(({ processors }) => processors.length === 0).map(({ name }) => name)
        if (lost.length > 0) {
          print(
            dim(
              `No connected processor can serve ${lost.join(', ')}: ${command('status', home)} says why, ${command('models rm <name>', home)} forgets one`,
            ),
          )
        }
      }
    })

  models
    .command('add')
    .description('have a processor serve a GGUF file on its machine')
    .argument('<file>', 'path of the GGUF file on the processor’s machine')
    .option('--name <name>', 'what requests call it (default: from the file)')
    .option('--processor <name>', 'which processor (default: the only one)')
    .addHelpText('after', '\nExample:\n  infermesh models add ./phi-4-Q4_K_M.gguf --name phi-4')
    .action(async (file: string, _options, self: Command) => {
      const options = optionsOf<{ name?: string; processor?: string }>(self)
      const { name, processor } = options
      // A relative path means this machine, which is the processor's where no other is named.
      const path = processor === undefined ? resolve(file) : file
      const model = await withMesh(
        options,
        (mesh, signal) => mesh.admin.models.add({ path, name, processor }, { signal }),
        'reading and announcing the file',
      )
      if (options.json) printJson(model)
      else {
        print(`${model.name} (${model.quantisation}, ${bytesText(model.sizeBytes)}) is on ${model.processor}`)
        if (model.default) print('It is the default now: requests that name no model get it')
        if (!model.approved) {
          print(
            `${model.processor} is a guest: ${command(`models approve ${model.name} --processor ${model.processor}`, homePath(options.home))} lets it serve`,
          )
        }
      }
    })

  models
    .command('default')
    .description('make a model the one of requests that name none')
    .argument('<name>', 'name of the model')
    .addHelpText('after', '\nExample:\n  infermesh models default phi-4')
    .action(async (name: string, _options, self: Command) => {
      const common = optionsOf(self)
      await withMesh(common, (mesh, signal) => mesh.admin.models.setDefault({ name }, { signal }))
      if (common.json) printJson({ name })
      else print(`Requests that name no model get ${name}`)
    })

  models
    .command('approve')
    .description('let a guest serve a model of this name')
    .argument('<name>', 'name of the model')
    .requiredOption('--processor <name>', 'the guest')
    .addHelpText('after', '\nExample:\n  infermesh models approve phi-4 --processor friend')
    .action(async (name: string, _options, self: Command) => {
      const { processor, ...common } = optionsOf<{ processor: string }>(self)
      const member = await withMesh(common, async (mesh, signal) => {
        const approved = await mesh.admin.models.approve({ name, processor }, { signal })
        // What a guest has and may not serve is no model of the mesh.
        if (!(await hasModel(mesh, processor, name, signal))) await warnOfModels(mesh, [name], signal)
        return approved
      })
      if (common.json) printJson(member)
      else print(`${processor} may serve ${member.models?.join(', ')}`)
    })

  models
    .command('rm')
    .alias('remove')
    .description('stop serving a model, or forget one that nobody has any more; its file stays')
    .argument('<name>', 'name of the model')
    .option('--processor <name>', 'on this processor only (default: on all)')
    .addHelpText('after', '\nExample:\n  infermesh models rm phi-4')
    .action(async (name: string, _options, self: Command) => {
      const options = optionsOf<{ processor?: string }>(self)
      const home = homePath(options.home)
      const {
        processors,
        forgotten = [],
        wasDefault,
      } = await withMesh(options, async (mesh, signal) => {
        const before = (await mesh.models({ signal }).catch(() => [])).find((model) => model.name === name)
        const removed = await mesh.admin.models.remove({ name, processor: options.processor }, { signal })
        const had = before?.processors ?? []
        const isGone = options.processor === undefined || had.every((one) => removed.processors.includes(one))
        return { ...removed, wasDefault: before?.default === true && isGone }
      })
      if (options.json) {
        printJson({ name, processors, forgotten })
        return
      }
      if (processors.length > 0) print(`${name} is no longer served by ${processors.join(', ')}`)
      else if (forgotten.length === 0) print(`${name} is no longer listed; no processor had it`)
      if (forgotten.length > 0) {
        print(`${name} is no longer listed for ${forgotten.join(', ')}, which cannot be told now`)
        print(
          dim(
            `A processor that comes back with the file announces it again; ${command('members remove <name>', home)} takes out one that is gone for good`,
          ),
        )
      }
      if (wasDefault)
        print(
          yellow(
            `It was the default: requests that name no model fail now, until ${command('models default <name>', home)}`,
          ),
        )
    })
}

/** Whether a processor says that it has a model, allowed or not. */
async function hasModel(mesh: MeshClient, processor: string, model: string, signal: AbortSignal): Promise<boolean> {
  const { workers } = await mesh.status({ signal })
  return workers.some(
    ({ role, name, load }) =>
      role === 'processor' && name === processor && load?.models.some((one) => one.name === model) === true,
  )
}
