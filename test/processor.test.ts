import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import type { Link } from '../lib/link/index.js'
import { type InferenceRequest, MeshError, type Model, type ModelLoad, newRequestId } from '../lib/protocol/index.js'
import { type ProcessorOptions, ProcessorWorker } from '../workers/processor/index.js'
import { chat, failure, STAND_IN, TINY } from './engine-kit.js'
import { linked, start, startAuthority, type TestAuthority, TestWorker, testOptions, until } from './helpers/mesh.js'

const TINY_HASH = '40850a666e8fde85013b3cd2dbc49177e42972fdbce264fc0849a0be58fe0da3'

interface Mesh {
  authority: TestAuthority
  processor: ProcessorWorker
  /** From a gateway to the processor. */
  link: Link
  announced: Model[]
  withdrawn: string[]
}

interface MeshOptions extends Partial<ProcessorOptions> {
  /** What the authority answers to an announcement. */
  onAnnounce?: (model: Model) => void
}

async function startMesh(t: Test, { onAnnounce, ...options }: MeshOptions = {}): Promise<Mesh> {
  const authority = await startAuthority(t)
  const announced: Model[] = []
  const withdrawn: string[] = []
  authority.net.dispatcher.respond('models.announce', async (model) => {
    onAnnounce?.(model)
    announced.push(model)
    return {}
  })
  authority.net.dispatcher.respond('models.withdraw', async ({ name }) => {
    withdrawn.push(name)
    return {}
  })
  const processor = await startProcessor(t, authority, options)
  const gateway = new TestWorker('gateway', testOptions(authority.home, 'g1'))
  await authority.admit(gateway)
  await start(t, gateway)
  return { authority, processor, link: await linked(gateway, processor), announced, withdrawn }
}

async function startProcessor(t: Test, authority: TestAuthority, options: Partial<ProcessorOptions>) {
  const flags = { engine: { gpu: 'off', restartMinMs: 20 }, ...options.flags }
  const processor = new ProcessorWorker({
    ...testOptions(authority.home, 'p1', flags),
    engine: options.engine,
    signMs: options.signMs,
  })
  await authority.admit(processor)
  return start(t, processor)
}

/** How the gateway sees one of the processor's models. */
function reported({ link }: Mesh, name = 'infermesh-tiny'): ModelLoad | undefined {
  return link.load?.models.find((model) => model.name === name)
}

function untilState(mesh: Mesh, state: ModelLoad['state'], name?: string): Promise<ModelLoad> {
  return until(
    () => {
      const model = reported(mesh, name)
      return model?.state === state && model
    },
    `the model is ${state}`,
    10_000,
  )
}

async function generate(link: Link, request: InferenceRequest, signal?: AbortSignal) {
  const seen = { text: '', events: [] as string[] }
  for await (const event of link.generate({ requestId: newRequestId(), request }, signal)) {
    if (seen.events.at(-1) !== event.type) seen.events.push(event.type)
    if (event.type === 'tokens') seen.text += event.text
    if (event.type === 'finish') return { ...seen, finish: event }
  }
  throw new Error('The stream ended without a finish')
}

test('while a prompt takes long, the gateway is told that it is being worked on', async (t) => {
  const mesh = await startMesh(t, {
    engine: { modulePath: STAND_IN, env: { STAND_IN_PREFILL_MS: '600', STAND_IN_TOKENS: '2' } },
    signMs: 50,
  })
  await untilState(mesh, 'loaded')
  const kinds: string[] = []
  const request = { requestId: newRequestId(), request: { ...chat('Hi'), model: 'infermesh-tiny' } }
  for await (const { type } of mesh.link.generate(request)) kinds.push(type)
  t.ok(kinds.indexOf('tokens') > 2, kinds.join(' '))
  t.alike(new Set(kinds.slice(0, kinds.indexOf('tokens'))), new Set(['started']))
  t.absent(kinds.slice(kinds.indexOf('tokens')).includes('started'))
})

test('a processor announces its model, reports it and answers a gateway', async (t) => {
  const mesh = await startMesh(t)
  const model = await untilState(mesh, 'loaded')
  t.is(model.hash, TINY_HASH)
  t.is(model.slots, 4)
  t.is(model.busySlots, 0)
  t.is(model.contextLength, 2048)
  t.is(mesh.link.load?.gpu?.backend, 'cpu')
  await until(() => mesh.announced.length > 0, 'the model is announced')
  t.alike(mesh.announced[0], {
    name: 'infermesh-tiny',
    hash: TINY_HASH,
    sizeBytes: 2_984_000,
    architecture: 'llama',
    quantisation: 'Q8_0',
    parameters: 2_755_008,
    contextLength: 2048,
    licence: 'MIT',
  })

  const { text, events, finish } = await generate(mesh.link, chat('What is the capital of France?'))
  t.ok(text.includes('Paris'), text)
  t.alike(events, ['tokens', 'finish'])
  t.is(finish.reason, 'stop')
  t.ok(finish.usage.promptTokens > 0 && finish.usage.completionTokens > 0)

  const { embeddings, usage } = await mesh.link.call('processor.embed', { input: ['a fox', 'a dog'] })
  t.is(embeddings.length, 2)
  t.ok(usage.promptTokens > 0)

  t.is((await failure(generate(mesh.link, chat('Hi', { model: 'nobody' })))).code, 'MODEL_NOT_FOUND')
  t.is((await failure(generate(mesh.link, chat('word '.repeat(3000))))).code, 'CONTEXT_LENGTH_EXCEEDED')

  const metrics = await mesh.processor.registry.metrics()
  t.ok(metrics.includes('infermesh_slots{state="free"} 4'))
  t.ok(/infermesh_prefill_seconds_count\{model="infermesh-tiny"\} 1/.test(metrics))
  t.ok(/infermesh_model_load_seconds_count\{model="infermesh-tiny"\} 1/.test(metrics))
  t.ok(/infermesh_engine_tokens_total\{model="infermesh-tiny",type="completion"\} \d/.test(metrics))
})

test('a gateway sees at once that slots are busy, is told BUSY beyond them, and can cancel', async (t) => {
  const mesh = await startMesh(t, {
    flags: { engine: { gpu: 'off', slots: 2 } },
    engine: { modulePath: STAND_IN, env: { STAND_IN_TOKENS: '100000' } },
  })
  await untilState(mesh, 'loaded')
  const abort = new AbortController()
  const running = [1, 2].map(() => failure(generate(mesh.link, chat('x'), abort.signal)))
  await until(() => reported(mesh)?.busySlots === 2, 'both slots are busy', 1000)
  t.is((await failure(generate(mesh.link, chat('x')))).code, 'BUSY')
  const cancelledAt = performance.now()
  abort.abort()
  t.alike(
    (await Promise.all(running)).map(({ code }) => code),
    ['CANCELLED', 'CANCELLED'],
  )
  await until(() => reported(mesh)?.busySlots === 0, 'both slots are free', 1000)
  t.ok(performance.now() - cancelledAt < 500, `${(performance.now() - cancelledAt).toFixed(0)} ms`)
})

test('when its engine dies, the stream ends with ENGINE_FAILED and the model comes back', async (t) => {
  const mesh = await startMesh(t)
  await untilState(mesh, 'loaded')
  const format = { type: 'grammar' as const, grammar: 'root ::= [a-z ]*' }
  const running = failure(generate(mesh.link, chat('x', { format })))
  await until(() => reported(mesh)?.busySlots === 1, 'it runs')
  process.kill(mesh.processor.models.all[0]?.engine.pid as number, 'SIGKILL')
  t.is((await running).code, 'ENGINE_FAILED')
  await untilState(mesh, 'loading')
  await untilState(mesh, 'loaded')
  t.ok((await generate(mesh.link, chat('What is the capital of France?'))).text.includes('Paris'))
})

test('a model added by its path is announced, answers, outlives a restart and can be removed', async (t) => {
  const mesh = await startMesh(t, { flags: { engine: { gpu: 'off', embedded: false } } })
  t.is((await failure(generate(mesh.link, chat('Hi')))).code, 'MODEL_NOT_FOUND')
  const folder = await t.tmp()
  const path = join(folder, 'copy.of-tiny.gguf')
  await copyFile(TINY, path)

  const added = await mesh.link.call('processor.models.add', { path })
  t.is(added.name, 'copy.of-tiny')
  t.is(added.hash, TINY_HASH)
  await until(() => mesh.announced.some(({ name }) => name === added.name), 'it is announced')
  t.alike(await mesh.link.call('processor.models.add', { path }), added, 'adding it again changes nothing')
  t.ok(
    (await generate(mesh.link, chat('What is the capital of France?', { model: added.name }))).text.includes('Paris'),
  )

  const wrong = join(folder, 'wrong.gguf')
  await writeFile(wrong, 'no model')
  t.is((await failure(mesh.link.call('processor.models.add', { path: wrong }))).code, 'MODEL_INVALID')
  t.is((await failure(mesh.link.call('processor.models.add', { path: 'relative.gguf' }))).code, 'BAD_REQUEST')
  const conflict = failure(
    mesh.link.call('processor.models.add', { path: wrong.replace('wrong', 'none'), name: added.name }),
  )
  t.is((await conflict).code, 'MODEL_INVALID')

  const list = JSON.parse(await readFile(join(mesh.processor.workerDir, 'models.json'), 'utf8')) as {
    models: unknown[]
  }
  t.alike(list.models, [{ name: added.name, path }])
  await mesh.processor.stop()
  const again = await startProcessor(t, mesh.authority, { flags: { engine: { gpu: 'off', embedded: false } } })
  await until(() => again.load().models[0]?.state === 'available', 'it is known and not loaded')
  await again.models.loaded(again.models.get(added.name))
  t.is(again.load().models[0]?.state, 'loaded')

  await again.models.remove(added.name)
  t.alike(again.load().models, [])
  await until(() => mesh.withdrawn.includes(added.name), 'it is withdrawn')
})

test('a model whose name stands for another file in the mesh is taken out of use', async (t) => {
  const mesh = await startMesh(t, {
    onAnnounce: () => {
      throw MeshError.MODEL_CONFLICT('infermesh-tiny stands for another file')
    },
  })
  const model = await untilState(mesh, 'failed')
  t.ok(model.reason?.includes('another file'))
  t.is((await failure(generate(mesh.link, chat('Hi')))).code, 'MODEL_CONFLICT')
})

test('an announcement that the authority cannot take yet is made again', async (t) => {
  let refusals = 2
  const mesh = await startMesh(t, {
    onAnnounce: () => {
      if (refusals-- > 0) throw MeshError.DISK_FULL('not now')
    },
  })
  await until(() => mesh.announced.length === 1, 'it is announced in the end')
  t.is((await untilState(mesh, 'loaded')).name, 'infermesh-tiny')
})

test('a draining processor finishes what runs and takes nothing new', async (t) => {
  const mesh = await startMesh(t, {
    engine: { modulePath: STAND_IN, env: { STAND_IN_TOKENS: '30', STAND_IN_TOKENS_PER_S: '60' } },
  })
  await untilState(mesh, 'loaded')
  const running = generate(mesh.link, chat('x'))
  await until(() => reported(mesh)?.busySlots === 1, 'it runs')
  const stopped = mesh.processor.stop()
  t.is((await failure(generate(mesh.link, chat('x')))).code, 'SHUTTING_DOWN')
  t.is((await running).finish.usage.completionTokens, 30)
  await stopped
})
