import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { MeshError } from '../lib/protocol/index.js'
import { LocalModels } from '../workers/processor/local-models.js'
import { answer, chat, engineOptions, failure, STAND_IN, TINY } from './engine-kit.js'
import { until } from './helpers/wait.js'

/** The models of one machine, their files and their list, with engines that run none of them. */

interface Opened {
  models: LocalModels
  folder: string
  log: string[]
}

async function open(
  t: Test,
  folder: string,
  { embedded, env }: { embedded?: { name: string; path: string }; env?: Record<string, string> } = {},
): Promise<Opened> {
  const log: string[] = []
  const { modelPath: _, ...options } = engineOptions({ modulePath: STAND_IN, env })
  const file = join(folder, 'models.json')
  const models = new LocalModels({ file, embedded, engine: options, onLog: (_level, message) => log.push(message) })
  t.teardown(() => models.close())
  models.open()
  return { models, folder, log }
}

/** A model file of its own: the embedded one with some bytes behind it. */
async function modelFile(folder: string, name: string): Promise<string> {
  const path = join(folder, name)
  await copyFile(TINY, path)
  await writeFile(path, name, { flag: 'a' })
  return path
}

test('a list of models that cannot be read is named, and nothing is started', async (t) => {
  const folder = await t.tmp()
  await writeFile(join(folder, 'models.json'), '{"models": 3}')
  const err = await failure(open(t, folder))
  t.is(err.code, 'STORE_INVALID')
  t.ok(err.message.includes('models.json'), err.message)
})

test('a name stands for one file, and a path is whole and ends in a name', async (t) => {
  const { models, folder } = await open(t, await t.tmp())
  const one = await modelFile(folder, 'one.gguf')
  const two = await modelFile(folder, 'two.gguf')
  t.is((await models.add(one)).name, 'one')
  const conflict = await failure(models.add(two, 'one'))
  t.is(conflict.code, 'MODEL_CONFLICT')
  t.ok(conflict.message.includes(one), conflict.message)
  const same = join(folder, 'same.gguf')
  await copyFile(one, same)
  t.is((await models.add(same, 'one')).name, 'one', 'the same file from elsewhere')
  t.is((await failure(models.add(two, 'not a name'))).details.param, 'name')
  await mkdir(join(folder, 'folder.gguf'))
  t.ok((await failure(models.add(join(folder, 'folder.gguf')))).message.includes('is no file'))
  await writeFile(join(folder, 'short.gguf'), 'GGUF')
  t.ok((await failure(models.add(join(folder, 'short.gguf')))).message.includes('ends after 4 bytes'))
  t.alike(
    models.all.map(({ name }) => name),
    ['one'],
  )
})

test('only a model that was added can be removed', async (t) => {
  const { models } = await open(t, await t.tmp(), { embedded: { name: 'tiny', path: TINY } })
  t.is(models.get(undefined).name, 'tiny')
  t.is((await failure(models.remove('none'))).code, 'MODEL_NOT_FOUND')
  const err = await failure(models.remove('tiny'))
  t.is(err.code, 'BAD_REQUEST')
  t.ok(err.message.includes('engine.embedded'))
})

test('a file that is gone since is told with its model, and asked for again when it is added again', async (t) => {
  const folder = await t.tmp()
  const path = await modelFile(folder, 'one.gguf')
  const before = await open(t, folder)
  await before.models.add(path)
  await before.models.close()
  await rm(path)
  const { models, log } = await open(t, folder)
  await until(() => models.all[0]?.load.state === 'failed', 'it is seen')
  t.ok(models.all[0]?.load.reason?.includes('does not exist'))
  t.ok(log.some((line) => line.includes('does not exist')))
  t.is(codeOfGet(models, 'one'), 'MODEL_INVALID')
  await modelFile(folder, 'one.gguf')
  await models.add(path)
  t.is(codeOfGet(models, 'one'), undefined)
  t.is(models.all[0]?.load.state, 'loaded')
})

test('while a crashed engine waits for its start, others may take the request', async (t) => {
  const { models, folder } = await open(t, await t.tmp(), { env: { STAND_IN_DIE_AFTER: '1' } })
  const path = await modelFile(folder, 'one.gguf')
  await models.add(path)
  const model = models.get('one')
  const engine = await models.loaded(model)
  t.is((await failure(answer(engine, chat('x')))).code, 'ENGINE_FAILED')
  t.is((await failure(models.loaded(model))).code, 'BUSY')
  await until(() => engine.state === 'loaded', 'it is back')
  t.is(await models.loaded(model), engine)
})

test('a model that cannot be loaded is not kept', async (t) => {
  const { models, folder } = await open(t, await t.tmp(), { env: { STAND_IN_LOAD_MS: '60000' } })
  const path = await modelFile(folder, 'one.gguf')
  const adding = failure(models.add(path))
  await until(() => models.all[0]?.engine.pid !== undefined, 'it loads')
  await models.all[0]?.engine.stop()
  t.is((await adding).code, 'ENGINE_FAILED')
  t.alike(models.all, [])
})

function codeOfGet(models: LocalModels, name: string): string | undefined {
  try {
    models.get(name)
    return undefined
  } catch (err) {
    return MeshError.from(err).code
  }
}
