import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type Test } from 'brittle'
import { EngineOutput } from '../workers/processor/engine-output.js'
import { Engine } from '../workers/processor/index.js'
import { answer, chat, engineOptions, failure, startEngine } from './engine-kit.js'

/** Engine processes that fail in ways that the real one should not: small programs that speak as it does. */

/** A program that tells a processor that it is there, and then does as `body` says with each `message`. */
async function program(t: Test, body: string): Promise<string> {
  const path = join(await t.tmp(), 'engine.mjs')
  const info = { slots: 2, contextLength: 100, gpu: { backend: 'cpu', devices: [], reason: '' } }
  await writeFile(
    path,
    `import { existsSync, writeFileSync } from 'node:fs'
    const say = (message) => process.send(message)
    const loaded = { type: 'loaded', info: ${JSON.stringify(info)} }
    process.on('disconnect', () => process.exit(0))
    process.on('message', (message) => {
      ${body}
    })
    say({ type: 'ready' })`,
  )
  return path
}

async function loadFailure(t: Test, body: string, loadTimeoutMs = 10_000) {
  const engine = new Engine(engineOptions({ modulePath: await program(t, body), loadTimeoutMs }))
  t.teardown(() => engine.stop())
  const err = await failure(engine.load())
  t.is(engine.state, 'failed')
  t.is(engine.failure, err)
  return err
}

test('what an engine process dies of while it loads says whose fault it is', async (t) => {
  const aborted = await loadFailure(t, `process.kill(process.pid, 'SIGABRT')`)
  t.is(aborted.code, 'MODEL_INVALID')
  t.ok(aborted.message.includes('was ended by SIGABRT'), aborted.message)
  const killed = await loadFailure(t, `process.kill(process.pid, 'SIGKILL')`)
  t.is(killed.code, 'ENGINE_FAILED')
  t.ok(killed.message.includes('may be out of memory'), killed.message)
  const ended = await loadFailure(t, 'process.exit(3)')
  t.is(ended.code, 'ENGINE_FAILED')
  t.ok(ended.message.includes('ended with code 3'), ended.message)
})

test('a model that is not loaded in time is given up, and its process with it', async (t) => {
  const late = await loadFailure(t, '', 300)
  t.is(late.code, 'TIMEOUT')
  t.ok(late.message.includes('300 ms'))
})

test('an answer of the wrong kind fails the job that asked', async (t) => {
  const modulePath = await program(
    t,
    `if (message.type === 'load') say(loaded)
    if (message.type === 'generate') say({ type: 'embedded', id: message.id, embeddings: [], promptTokens: 0 })
    if (message.type === 'embed') say({ type: 'finish', id: message.id, finish: {} })`,
  )
  const engine = await startEngine(t, { modulePath })
  t.is((await failure(answer(engine, chat('x')))).code, 'ENGINE_FAILED')
  t.is((await failure(engine.embed(['x']))).code, 'ENGINE_FAILED')
  t.is((await failure(answer(engine, chat('x'), AbortSignal.abort()))).code, 'CANCELLED', 'aborted beforehand')
  t.is(engine.generating, 0)
})

test('an engine that cannot be started again says why, and is tried until it can', async (t) => {
  const mark = join(await t.tmp(), 'starts')
  const modulePath = await program(
    t,
    `const times = (name) => { const path = ${JSON.stringify(mark)} + name; const had = existsSync(path); writeFileSync(path, ''); return had }
    if (message.type === 'load') {
      if (times('first') && !times('second')) {
        say({ type: 'failed', error: { code: 'ENGINE_FAILED', message: 'no memory' } })
        process.disconnect()
      }
      else say(loaded)
    }
    if (message.type === 'generate') {
      say({ type: 'log', level: 'warn', message: 'a warning' })
      process.stderr.write('some line\\nGGML_ASSERT(x > 0) failed\\n', () => process.kill(process.pid, 'SIGKILL'))
    }`,
  )
  const log: string[] = []
  const states: string[] = []
  const engine = await startEngine(t, { modulePath, onLog: (level, message) => log.push(`${level} ${message}`) })
  engine.on('change', () => states.push(engine.failure ? `${engine.state}: ${engine.failure.message}` : engine.state))
  t.is((await failure(answer(engine, chat('x')))).code, 'ENGINE_FAILED')
  t.ok(engine.restarting)
  while (engine.state !== 'loaded') await once(engine, 'change')
  t.alike(states, ['loading', 'loading', 'failed: no memory', 'loading: no memory', 'loaded'])
  t.absent(engine.restarting)
  t.alike(log, [
    'warn a warning',
    'error the engine process was ended by SIGKILL: GGML_ASSERT(x > 0) failed',
    'error the model could not be loaded and is tried again: no memory',
  ])
})

test('an engine that requests crash starts again at once each time: nobody else waits longer for it', async (t) => {
  const modulePath = await program(
    t,
    `if (message.type === 'load') say(loaded)
    if (message.type === 'generate') {
      say({ type: 'at', id: message.id })
      setImmediate(() => process.kill(process.pid, 'SIGSEGV'))
    }`,
  )
  const engine = await startEngine(t, { modulePath, restartMinMs: 100, restartMaxMs: 60_000 })
  const began = performance.now()
  for (let i = 0; i < 6; i++) {
    t.is((await failure(answer(engine, chat('x')))).code, 'ENGINE_ENDED')
    while (engine.state !== 'loaded') await once(engine, 'change')
  }
  const tookMs = performance.now() - began
  t.ok(tookMs < 6000, `${tookMs.toFixed(0)} ms, where pauses that double add up to 6300`)
})

test('an engine’s last lines are kept, older ones are not', (t) => {
  const output = new EngineOutput()
  t.is(output.lastWords(), '')
  output.add('terminate called after throwing')
  t.is(output.lastWords(), ': terminate called after throwing')
  for (let i = 0; i < 20; i++) output.add(`line ${i}`)
  t.is(output.lastWords(), '', 'older lines are gone')
})
