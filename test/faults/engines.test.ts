import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { endEngines, isAlive, writeEngines } from '../../lib/home/index.js'
import { MeshError, newRequestId } from '../../lib/protocol/index.js'
import { GatewayWorker } from '../../workers/gateway/index.js'
import { Engine, ProcessorWorker } from '../../workers/processor/index.js'
import { LocalModels } from '../../workers/processor/local-models.js'
import { answer, chat, engineOptions, failure, STAND_IN, startEngine, TINY } from '../engine-kit.js'
import {
  adminKey,
  infermesh,
  spawnNode,
  spawnProgram,
  start,
  startAuth,
  startStranger,
  testHome,
  testOptions,
  until,
} from '../helpers/mesh.js'
import { faultyEnv, QUICK_WATCH } from './engine-faults.js'

/** Engines that hang, crash, are stopped or lose their processor. */

test('an engine whose process is stopped is ended and started again, and its request fails for good', async (t) => {
  const engine = await startEngine(t, { watch: QUICK_WATCH })
  const { pid = 0 } = engine
  const running = failure(answer(engine, chat('Tell me a story about a fox.')))
  await once(engine, 'step')
  process.kill(pid, 'SIGSTOP')
  await until(() => engine.quiet, 'it is seen to be silent')
  t.is((await failure(answer(engine, chat('Hi')))).code, 'BUSY', 'and gets no new work')
  const err = await running
  t.is(err.code, 'ENGINE_ENDED')
  t.ok(err.message.includes('said nothing for 0.5 s'), err.message)
  await until(() => engine.pid !== pid && engine.state === 'loaded', 'it is back')
  t.absent(isAlive(pid))
  t.ok((await answer(engine, chat('What is the capital of France?'))).text.includes('Paris'))
})

test('a request that hangs an engine is found among others, which may be tried elsewhere', async (t) => {
  const engine = await startEngine(t, { watch: QUICK_WATCH, env: await faultyEnv(t) })
  const story = failure(answer(engine, chat('Tell me a story about a fox.')))
  await once(engine, 'step')
  const [hung, other] = await Promise.all([failure(answer(engine, chat('please hang'))), story])
  t.alike([hung.code, other.code], ['ENGINE_ENDED', 'ENGINE_FAILED'])
  t.absent(other.details.suspect)
  await until(() => engine.state === 'loaded', 'it is back')
})

test('a processor that stands still for longer than an engine may be silent ends no engine', async (t) => {
  const engine = await startEngine(t, { watch: QUICK_WATCH })
  const { pid } = engine
  const story = answer(engine, chat('Tell me a story about a fox.', { maxTokens: 30 }))
  await once(engine, 'step')
  // This thread is the processor's.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500)
  t.ok((await story).ids.length > 0)
  t.is(engine.pid, pid)
})

test('an engine with nothing to do may be stopped for any time', async (t) => {
  const engine = await startEngine(t, {
    watch: { beatMs: 5, quietBeats: 1, silentBeats: 2, loadingBeats: 10_000 },
    modulePath: STAND_IN,
  })
  const { pid = 0 } = engine
  process.kill(pid, 'SIGSTOP')
  await new Promise((resolve) => setTimeout(resolve, 200))
  process.kill(pid, 'SIGCONT')
  t.is(engine.pid, pid)
  t.is(engine.state, 'loaded')
})

test('an engine ends with a processor that is killed, though its own main thread is stuck', async (t) => {
  const holder = spawnNode(t, 'test/faults/engine-holder.js', [], await faultyEnv(t))
  const pid = Number(await until(() => holder.stdout.trim() || undefined, 'its engine hangs', 20_000))
  t.ok(isAlive(pid))
  holder.process.kill('SIGKILL')
  await until(() => !isAlive(pid), 'the engine is gone')
})

test('engines that a killed processor left stopped are ended by the next one and by `down`, and nobody else is', async (t) => {
  const stopped = () => {
    const child = spawnProgram(t, [process.execPath, '-e', 'setInterval(() => {}, 1000)'])
    child.process.kill('SIGSTOP')
    return child
  }
  const dir = await t.tmp()
  const [left, stranger] = [stopped(), stopped()]
  writeEngines(dir, [left.process.pid ?? 0])
  t.alike(endEngines(dir), [left.process.pid])
  t.is((await left.exited).signal, 'SIGKILL')
  t.alike(endEngines(dir), [], 'none is left')
  writeFileSync(join(dir, 'engines.json'), JSON.stringify([{ pid: stranger.process.pid, start: 'another time' }]))
  t.alike(endEngines(dir), [], 'a number that went to another process')
  writeFileSync(join(dir, 'engines.json'), 'not json')
  t.alike(endEngines(dir), [])

  const home = await t.tmp()
  const workerDir = join(home, 'workers', 'processor-p1')
  mkdirSync(workerDir, { recursive: true })
  writeEngines(workerDir, [stranger.process.pid ?? 0])
  const { stdout } = await infermesh(['down', '--force', '--json'], { home })
  t.is(JSON.parse(stdout).engines, 1)
  t.is((await stranger.exited).signal, 'SIGKILL')
})

async function openModels(t: Test, env: Record<string, string>, more: object = {}): Promise<LocalModels> {
  const { modelPath: _, ...engine } = engineOptions({ modulePath: STAND_IN, env, ...more })
  const file = join(await t.tmp(), 'models.json')
  const models = new LocalModels({ file, embedded: { name: 'tiny', path: TINY }, engine, onLog: () => {} })
  t.teardown(() => models.close())
  models.open()
  return models
}

test('an engine that is killed while it loads for the first time is started again', async (t) => {
  const models = await openModels(t, { STAND_IN_LOAD_MS: '300' })
  const engine = models.get('tiny').engine
  const pid = await until(() => engine.pid, 'it loads')
  process.kill(pid, 'SIGKILL')
  await until(() => models.get('tiny').load.reason?.includes('SIGKILL'), 'its state says why')
  t.is(models.get('tiny').load.state, 'failed')
  t.is((await failure(models.loaded(models.get('tiny')))).code, 'BUSY')
  await until(() => engine.state === 'loaded', 'it is back')
  t.not(engine.pid, pid)
  t.is(models.get('tiny').load.state, 'loaded')
  t.is(models.get('tiny').load.reason, undefined)
})

test('a model whose engine ends at every load is given up with its reason, until it is added again', async (t) => {
  const models = await openModels(t, { STAND_IN_EXIT_IN_LOAD: '3' }, { restartMinMs: 1, restartMaxMs: 2 })
  const model = models.get('tiny')
  await until(() => model.engine.state === 'failed' && !model.engine.restarting, 'it is given up')
  t.is(model.load.state, 'failed')
  t.ok(model.load.reason?.includes('ended with code 3'), model.load.reason)
  t.is((await failure(models.loaded(model))).code, 'ENGINE_FAILED', 'a request loads it no more')
  t.is(model.engine.pid, undefined)
  t.is((await failure(models.add(TINY, 'tiny'))).code, 'ENGINE_FAILED', 'it was loaded once more')
})

test('models load one at a time, and a load ends with whoever asked for it', async (t) => {
  const models = await openModels(t, { STAND_IN_LOAD_MS: '1000' })
  await until(() => models.get('tiny').engine.state === 'loaded', 'the first is loaded')
  const loading = () => models.all.filter(({ engine }) => engine.pid !== undefined && engine.state === 'loading').length
  let most = 0
  models.on('change', () => {
    most = Math.max(most, loading())
  })
  const added = models.add(TINY, 'a')
  await until(() => loading() === 1, 'a loads')
  const caller = new AbortController()
  const ended = Promise.all(['b', 'c'].map((name) => failure(models.add(TINY, name, caller.signal))))
  t.is((await added).name, 'a')
  await until(() => loading() === 1, 'one of the next loads')
  const pids = models.all.map(({ engine }) => engine.pid)
  caller.abort(MeshError.CANCELLED('The caller went away'))
  t.alike(
    (await ended).map(({ code }) => code),
    ['CANCELLED', 'CANCELLED'],
  )
  t.is(most, 1)
  t.alike(
    models.all.map(({ name }) => name),
    ['tiny', 'a'],
  )
  for (const pid of pids.slice(2)) if (pid !== undefined) await until(() => !isAlive(pid), 'its engine is gone')
  const others = new AbortController()
  const many = Array.from({ length: 8 }, (_, i) => failure(models.add(TINY, `m${i}`, others.signal)))
  others.abort(MeshError.CANCELLED('The caller went away'))
  t.ok(
    (await Promise.all(many)).some(({ code }) => code === 'BUSY'),
    'few wait',
  )
})

test('a load that leaves the machine too little memory is ended', async (t) => {
  const gib = 1024 ** 3
  const left = [8 * gib, 4 * gib, gib / 1024]
  const memory = () => (left.length > 1 ? left.shift() : left[0]) ?? 0
  const engine = new Engine(engineOptions({ modulePath: STAND_IN, env: { STAND_IN_LOAD_MS: '60000' }, memory }))
  t.teardown(() => engine.stop())
  const started = once(engine, 'process')
  const loading = failure(engine.load())
  const [pid] = await started
  const err = await loading
  t.is(err.code, 'ENGINE_FAILED')
  t.ok(err.message.includes('not enough memory'), err.message)
  t.absent(isAlive(pid))
})

test('a mesh with a request that hangs engines: one engine ends, once, and everybody else is served', {
  timeout: 60_000,
}, async (t) => {
  const home = await testHome(t)
  await startAuth(t, home)
  const gateway = await start(t, new GatewayWorker(testOptions(home, 'g1')))
  const env = await faultyEnv(t)
  const options = (name: string) => ({
    ...testOptions(home, name, { engine: { gpu: 'off' } }),
    engine: { env, watch: QUICK_WATCH },
  })
  const processors = await Promise.all(['p1', 'p2'].map((name) => start(t, new ProcessorWorker(options(name)))))
  const url = `${gateway.status().addresses.http}/readyz`
  const loaded = () => gateway.net.linksTo('processor').filter(({ load }) => load?.models[0]?.state === 'loaded').length
  await until(() => loaded() === 2, 'both processors have the model', 30_000)
  const client = await startStranger(t, home, gateway.publicKey)
  const key = adminKey(home)
  const ask = async (content: string): Promise<string> => {
    try {
      let text = ''
      for await (const event of client.generate({ requestId: newRequestId(), key, request: chat(content) })) {
        if (event.type === 'tokens') text += event.text
      }
      return text
    } catch (err) {
      return MeshError.from(err).code
    }
  }
  const pids = processors.map(({ models }) => models.get(undefined).engine.pid)
  const stepsOf = () => processors.map(({ models }) => models.get(undefined).engine)
  const seenReady: boolean[] = []
  const hung = ask('please hang')
  await until(() => stepsOf().some((engine) => engine.quiet), 'an engine is silent')
  seenReady.push((await fetch(url)).ok)
  t.ok((await ask('What is the capital of France?')).includes('Paris'), 'others are served meanwhile')
  t.is(await hung, 'ENGINE_ENDED')
  t.alike(seenReady, [true], 'the other processor serves')
  await until(() => loaded() === 2, 'the engine is back', 30_000)
  const after = processors.map(({ models }) => models.get(undefined).engine.pid)
  t.is(after.filter((pid, i) => pid !== pids[i]).length, 1, 'one engine was ended, not two')

  const both = Promise.all([ask('please hang'), ask('please hang')])
  await until(() => stepsOf().every((engine) => engine.quiet), 'both engines are silent')
  await until(async () => !(await fetch(url)).ok, 'and the gateway says so')
  const { missing } = (await (await fetch(url)).json()) as { missing?: string[] }
  if (missing) t.ok(/infermesh-tiny at p\d is loading/.test(missing[0] ?? ''), missing[0])
  t.alike(await both, ['ENGINE_ENDED', 'ENGINE_ENDED'])
  await until(async () => (await fetch(url)).ok, 'it serves again', 30_000)
})
